"""JPEG and BMP against known values and second decoders."""

import io
import itertools
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from raw_pictures import bmp, exif, refused, turned

from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.options import ImageOptions

COLOUR = ImageOptions()
SIDES = 24, 40


def smooth(channels: int) -> npt.NDArray[Any]:
    """(C, H, W) that JPEG stores almost without loss, and that no turn leaves as it is."""
    y, x = np.mgrid[: SIDES[0], : SIDES[1]]
    waves = [100 + 4 * y + 1.5 * x, 200 - 3 * x, 30 + 5 * y, 90 - 2 * y + x]
    return np.clip(waves[:channels], 0, 255).astype(np.uint8)


def jpeg(samples: npt.NDArray[Any], mode: str, **options: Any) -> bytes:
    file = io.BytesIO()
    pixels = samples[0] if len(samples) == 1 else samples.transpose(1, 2, 0).copy()
    picture = Image.fromarray(pixels, mode)
    picture.save(file, "JPEG", **{"quality": 100, "subsampling": 0, **options})
    return file.getvalue()


def second_decoder(content: bytes, orientation: int) -> npt.NDArray[Any]:
    """The colours that imagecodecs finds, upright."""
    found = np.atleast_3d(imagecodecs.jpeg_decode(content)).transpose(2, 0, 1)
    return np.broadcast_to(turned(found, orientation, inverse=True), (3, *SIDES))


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_jpegs_are_upright(tmp_path: Path, orientation: int, channels: int, order: str) -> None:
    samples = smooth(channels)
    stored = turned(samples, max(1, orientation))
    mode = "L" if channels == 1 else "RGB"
    for how in ({}, {"progressive": True}):
        block = b"Exif\0\0" + exif(orientation, order)
        content = jpeg(stored, mode, exif=block, **how)
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        image = read_image(path, COLOUR)
        right = np.broadcast_to(samples, (3, *SIDES))
        np.testing.assert_allclose(image.astype(int), right, atol=3)
        np.testing.assert_allclose(
            image.astype(int), second_decoder(content, max(1, orientation)), atol=2
        )
        with Image.open(path) as found:
            same = ImageOps.exif_transpose(found).convert("RGB")
        np.testing.assert_array_equal(image, np.asarray(same).transpose(2, 0, 1))
        assert image_size(path, COLOUR) == SIDES


def test_colours_that_are_stored_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(smooth(3), "RGB", keep_rgb=True))
    np.testing.assert_allclose(read_image(path, COLOUR).astype(int), smooth(3), atol=2)


def test_ink_with_adobes_marker(tmp_path: Path) -> None:
    ink = smooth(4)
    content = jpeg(ink, "CMYK")
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    image = read_image(path, COLOUR)
    right = (255.0 - ink[:3]) * (255 - ink[3:]) / 255
    np.testing.assert_allclose(image, right, atol=4)
    marker = content.index(b"\xff\xee")
    length = int.from_bytes(content[marker + 2 : marker + 4], "big")
    without = content[:marker] + content[marker + 2 + length :]
    assert "4 components" in refused(path, without)


def test_ink_that_is_stored_as_light_and_colour(tmp_path: Path) -> None:
    content = bytearray(jpeg(smooth(4), "CMYK"))
    content[content.index(b"Adobe") + 11] = 2  # the same bytes as YCCK
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    light, blue, red, _ = stored = 255.0 - smooth(4)
    green = light - 0.344136 * (blue - 128) - 0.714136 * (red - 128)
    ink = np.stack([light + 1.402 * (red - 128), green, light + 1.772 * (blue - 128)])
    right = (255 - np.clip(ink, 0, 255)) * stored[3] / 255
    np.testing.assert_allclose(read_image(path, COLOUR), right, atol=6)


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [(1, 0xC3, "SOF3"), (1, 0xC9, "SOF9"), (4, 12, "12 bits"), (9, 2, "2 components")],
)
def test_other_jpegs_are_refused_by_name(
    tmp_path: Path, place: int, value: int, found: str
) -> None:
    content = bytearray(jpeg(smooth(3), "RGB"))
    content[content.index(b"\xff\xc0") + place] = value
    assert found in refused(tmp_path / "a.jpg", bytes(content))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("orientation", "kind"), [(6, 1), (6, 3), (6, 4), (6, 8), (9, 3), (6, 11)])
def test_an_orientation_is_a_whole_number_from_1_to_8(
    tmp_path: Path, orientation: int, kind: int, order: str
) -> None:
    block = b"Exif\0\0" + exif(orientation, order, kind)
    (tmp_path / "a.jpg").write_bytes(jpeg(smooth(1), "L", exif=block))
    turned_aside = orientation == 6 and kind != 11
    assert image_size(tmp_path / "a.jpg", COLOUR) == (SIDES[::-1] if turned_aside else SIDES)


def with_xmp(content: bytes, text: bytes) -> bytes:
    body = b"http://ns.adobe.com/xap/1.0/\0" + text
    return content[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


@pytest.mark.parametrize(
    "text", [b'<x tiff:Orientation="6"/>', b"<tiff:Orientation>6</tiff:Orientation>"]
)
def test_an_orientation_outside_exif_has_to_agree(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.jpg"
    assert "orientation 6" in refused(path, with_xmp(jpeg(smooth(1), "L"), text))
    for told, right in ((3, None), (6, SIDES[::-1])):
        content = with_xmp(jpeg(smooth(1), "L", exif=b"Exif\0\0" + exif(told)), text)
        if right is None:
            assert "orientation 6" in refused(path, content)
        else:
            path.write_bytes(content)
            assert image_size(path, COLOUR) == right
    path.write_bytes(with_xmp(jpeg(smooth(1), "L"), text.replace(b"6", b"1")))
    assert image_size(path, COLOUR) == SIDES


@pytest.mark.parametrize("progressive", [False, True])
def test_a_second_picture_behind_the_first_is_refused(tmp_path: Path, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    content = jpeg(smooth(3), "RGB", progressive=progressive)
    for between in (b"", bytes(9), b"\xff" * 100_000):
        assert "second" in refused(path, content + between + content)
    assert "second" in refused(path, content[:-2] + content)
    thumbnail = b"Exif\0\0" + exif(1) + content
    for whole in (
        content + b"\xff\xd8 no picture" + bytes(9),
        jpeg(smooth(3), "RGB", progressive=progressive, exif=thumbnail),
    ):
        path.write_bytes(whole)
        np.testing.assert_allclose(read_image(path, COLOUR).astype(int), smooth(3), atol=3)


def test_exif_that_ends_early_declares_nothing(tmp_path: Path) -> None:
    for length in range(8, 30):
        block = b"Exif\0\0" + exif(6)[:length]
        (tmp_path / "a.jpg").write_bytes(jpeg(smooth(1), "L", exif=block))
        assert image_size(tmp_path / "a.jpg", COLOUR) == SIDES


def noise(channels: int, top: int = 256) -> npt.NDArray[Any]:
    sides = channels, 5, 11
    return np.random.default_rng(top).integers(0, top, sides, dtype=np.uint8)


def assert_bmp(path: Path, content: bytes, right: npt.NDArray[Any]) -> None:
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path, COLOUR), right)
    assert image_size(path, COLOUR) == right.shape[1:]
    with Image.open(path) as found:
        same = np.asarray(found.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(same, right)


@pytest.mark.parametrize("header", [12, 40, 52, 56, 108, 124])
@pytest.mark.parametrize("top_down", [False, True])
def test_bmps(tmp_path: Path, header: int, top_down: bool) -> None:
    how: dict[str, Any] = {"header": header, "top_down": top_down and header > 12}
    path = tmp_path / "a.bmp"
    for bits, grey in itertools.product((1, 4, 8), (False, True)):
        entries = noise(1, 2**bits)
        palette = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), dtype=np.uint8)
        if grey:
            palette[:] = palette[:, :1]
        right = palette[entries[0]].transpose(2, 0, 1)
        assert_bmp(path, bmp(entries, bits, palette=palette, **how), right)
    for bits in (24, 32) if header > 12 else (24,):
        pixels = noise(bits // 8)
        assert_bmp(path, bmp(pixels, bits, **how), pixels[2::-1])


@pytest.mark.parametrize("header", [40, 56, 108, 124])
def test_bmps_with_masks(tmp_path: Path, header: int) -> None:
    path = tmp_path / "a.bmp"
    pixels = noise(4)
    colours = [0xFF0000, 0xFF00, 0xFF]
    how: dict[str, Any] = {"header": header, "compression": 3}
    assert_bmp(
        path, bmp(pixels, 32, masks=[*colours, 0][: 3 if header == 40 else 4], **how), pixels[2::-1]
    )
    odd = [0xFF00, 0xFF0000, 0xFF000000]
    path.write_bytes(bmp(pixels, 32, masks=odd, **how))
    np.testing.assert_array_equal(read_image(path, COLOUR), pixels[1:])
    if header > 40:
        with_alpha = [*colours, 0xFF000000]
        assert "transparent" in refused(path, bmp(pixels, 32, masks=with_alpha, **how))
        pixels[3] = 255
        assert_bmp(path, bmp(pixels, 32, masks=with_alpha, **how), pixels[2::-1])
    assert "masks" in refused(path, bmp(pixels, 32, masks=[0x3FF, 0xFF00, 0xFF], **how))


def test_other_bmps_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    palette = np.zeros((256, 3), np.uint8)
    assert "compression 1" in refused(path, bmp(noise(1), 8, compression=1, palette=palette))
    assert "16 bits" in refused(path, bmp(noise(2), 16))
    assert "64 bytes" in refused(path, bmp(noise(3), 24, header=64))
    assert "255" in refused(path, bmp(noise(1) | np.uint8(255), 8, palette=palette[:9]))
    assert "early" in refused(path, bmp(noise(3), 24)[:-1])


@pytest.mark.parametrize(("bits", "channels", "end"), [(24, 3, 54), (8, 1, 54 + 4 * 256)])
def test_pixels_start_behind_header_and_palette(
    tmp_path: Path, bits: int, channels: int, end: int
) -> None:
    palette = np.zeros((256, 3), np.uint8) if bits == 8 else None
    content = bmp(noise(channels), bits, palette=palette)
    assert content[10:14] == end.to_bytes(4, "little")
    for start in (0, 14, 53, end - 1):
        wrong = content[:10] + start.to_bytes(4, "little") + content[14:]
        assert str(end) in refused(tmp_path / "a.bmp", wrong)
