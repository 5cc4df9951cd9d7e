"""PNG: every kind of samples against known values and against a second decoder."""

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from raw_pictures import PNG_CHANNELS, chunk, exif, png, refused, turned

from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

COLOUR = ImageOptions()
SIDES = 5, 11  # neither fills whole bytes, nor every pass of an interlaced picture
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
KINDS = [(GREY, 1), (GREY, 2), (GREY, 4), (GREY, 8), (GREY, 16), (RGB, 8), (RGB, 16)]
KINDS += [(PALETTE, 1), (PALETTE, 2), (PALETTE, 4), (PALETTE, 8)]
KINDS += [(GREY_ALPHA, 8), (GREY_ALPHA, 16), (RGB_ALPHA, 8), (RGB_ALPHA, 16)]


def known(colour: int, depth: int) -> npt.NDArray[Any]:
    """Samples of every kind; an alpha channel is opaque."""
    rng = np.random.default_rng([colour, depth])
    samples = rng.integers(0, 2**depth, (PNG_CHANNELS[colour], *SIDES))
    samples[:, 0, :2] = 0, 2**depth - 1
    if colour in (GREY_ALPHA, RGB_ALPHA):
        samples[-1] = 2**depth - 1
    return samples


def palette(depth: int) -> npt.NDArray[Any]:
    return np.random.default_rng(depth).integers(0, 256, (2**depth, 3), dtype=np.uint8)


def expected(samples: npt.NDArray[Any], colour: int, depth: int) -> npt.NDArray[Any]:
    """What the standard says of these samples, as colours (3, H, W)."""
    if colour == PALETTE:
        return palette(depth)[samples[0]].transpose(2, 0, 1)
    samples = samples[:-1] if colour in (GREY_ALPHA, RGB_ALPHA) else samples
    values = samples * (255 // (2**depth - 1)) if depth < 8 else samples
    values = np.broadcast_to(values, (3, *values.shape[1:]))
    return values.astype(np.uint16 if depth == 16 else np.uint8)


def assert_read(path: Path, content: bytes, right: npt.NDArray[Any]) -> None:
    path.write_bytes(content)
    image = read_image(path, COLOUR)
    assert image.dtype == right.dtype
    np.testing.assert_array_equal(image, right)
    assert image_size(path, COLOUR) == right.shape[1:]


def second_decoder(content: bytes, orientation: int = 1) -> npt.NDArray[Any]:
    """The colours that imagecodecs (libpng) finds, upright."""
    found = np.atleast_3d(imagecodecs.png_decode(content)).transpose(2, 0, 1)
    found = turned(found[: 3 if len(found) > 2 else 1], orientation, inverse=True)
    return np.broadcast_to(found, (3, *found.shape[1:]))


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_every_kind_of_samples(
    tmp_path: Path, colour: int, depth: int, interlace: bool, orientation: int | None
) -> None:
    samples = known(colour, depth)
    stored = samples if orientation is None else turned(samples, orientation)
    before = [(b"PLTE", palette(depth).tobytes())] if colour == PALETTE else []
    tag = [] if orientation is None else [(b"eXIf", exif(orientation))]
    right = expected(samples, colour, depth)
    for chunks in ({"before": [*before, *tag]}, {"before": before, "after": tag, "parts": 3}):
        content = png(stored, depth, colour, interlace=interlace, **chunks)
        assert_read(tmp_path / "a.png", content, right)
        np.testing.assert_array_equal(second_decoder(content, orientation or 1), right)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_refused_where_it_is_used(tmp_path: Path, depth: int) -> None:
    samples = known(GREY, depth)
    absent = 1 if depth > 1 else None
    used = [(b"tRNS", struct.pack(">H", int(samples[0, 2, 3])))]
    assert "transparent" in refused(tmp_path / "a.png", png(samples, depth, GREY, before=used))
    if absent is not None:
        samples[samples == absent] = 0
        unused = [(b"tRNS", struct.pack(">H", absent))]
        content = png(samples, depth, GREY, before=unused)
        assert_read(tmp_path / "a.png", content, expected(samples, GREY, depth))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_refused_where_it_is_used(tmp_path: Path, depth: int) -> None:
    samples = known(RGB, depth)
    colour = samples[:, 2, 3].tolist()
    used = [(b"tRNS", struct.pack(">HHH", *colour))]
    assert "transparent" in refused(tmp_path / "a.png", png(samples, depth, RGB, before=used))
    near = [(b"tRNS", struct.pack(">HHH", colour[0], colour[1], colour[2] ^ 1))]
    content = png(samples, depth, RGB, before=near)
    assert_read(tmp_path / "a.png", content, expected(samples, RGB, depth))


@pytest.mark.parametrize(
    ("colour", "depth"), [(GREY_ALPHA, 8), (GREY_ALPHA, 16), (RGB_ALPHA, 8), (RGB_ALPHA, 16)]
)
def test_an_alpha_is_refused_from_one_step_below_opaque(
    tmp_path: Path, colour: int, depth: int
) -> None:
    samples = known(colour, depth)
    samples[-1, 2, 3] -= 1
    assert "transparent" in refused(tmp_path / "a.png", png(samples, depth, colour))


def test_a_palettes_opacity_counts_where_it_is_used(tmp_path: Path) -> None:
    samples = known(PALETTE, 4) % 15
    chunks = [(b"PLTE", palette(4).tobytes())]
    opacity = bytearray(b"\xff" * 16)
    opacity[15] = 0
    content = png(samples, 4, PALETTE, before=[*chunks, (b"tRNS", opacity)])
    assert_read(tmp_path / "a.png", content, expected(samples, PALETTE, 4))
    opacity[int(samples[0, 1, 1])] = 254
    content = png(samples, 4, PALETTE, before=[*chunks, (b"tRNS", opacity)])
    assert "transparent" in refused(tmp_path / "a.png", content)
    assert "15" in refused(
        tmp_path / "a.png",
        png(samples + 1, 4, PALETTE, before=[(b"PLTE", palette(4)[:15].tobytes())]),
    )


def test_what_a_header_may_not_say_is_refused(tmp_path: Path) -> None:
    samples = known(GREY, 8)
    content = png(samples, 8, GREY)
    for place, value in ((24, 3), (25, 5), (26, 1), (27, 1), (28, 2), (19, 0), (23, 0)):
        changed = bytearray(content)
        changed[place] = value
        header = chunk(b"IHDR", bytes(changed[16:29]))
        refused(tmp_path / "a.png", content[:8] + header + content[33:])


def test_rows_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    content = png(known(RGB, 8), 8, RGB)
    data = content.index(b"IDAT")
    damaged = bytearray(content)
    damaged[data + 20] ^= 1
    short = bytearray(content)
    short[20:24] = struct.pack(">I", SIDES[0] + 1)  # one row more than there is
    header = chunk(b"IHDR", bytes(short[16:29]))
    for bad in (bytes(damaged), content[:8] + header + content[33:], content[:-12], content[:-1]):
        assert "whole" in refused(tmp_path / "a.png", bad)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"ABCD"])
def test_chunks_out_of_place_are_refused(tmp_path: Path, kind: bytes) -> None:
    twice = [(kind, palette(8).tobytes())] * 2
    sentence = refused(tmp_path / "a.png", png(known(PALETTE, 8), 8, PALETTE, before=twice))
    assert kind.decode() in sentence


def test_an_animation_is_refused(tmp_path: Path) -> None:
    animation = [(b"acTL", struct.pack(">II", 7, 0))]
    assert "7 frames" in refused(tmp_path / "a.png", png(known(GREY, 8), 8, 0, before=animation))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_unknown_orientation_is_upright(tmp_path: Path, orientation: int) -> None:
    samples = known(GREY, 8)
    content = png(samples, 8, GREY, before=[(b"eXIf", exif(orientation, ">"))])
    assert_read(tmp_path / "a.png", content, expected(samples, GREY, 8))


def texts(orientation: int) -> list[tuple[bytes, bytes]]:
    """Text chunks that declare an orientation, as older programs write it."""
    block = b"Exif\0\0" + exif(orientation)
    digits = b"\nexif\n%8d\n%s\n%s\n" % (
        len(block),
        block.hex().encode()[:72],
        block.hex().encode()[72:],
    )
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    profile = b"\nxmp\n%8d\n%s\n" % (len(xmp), xmp.hex().encode())
    return [
        (b"tEXt", b"Raw profile type exif\0" + digits),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)),
        (b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(digits)),
        (b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(profile)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0word\0" + zlib.compress(xmp)),
    ]


@pytest.mark.parametrize("kind", range(6))
def test_an_orientation_in_text_has_to_agree(tmp_path: Path, kind: int) -> None:
    samples = known(GREY, 8)
    path = tmp_path / "a.png"
    other, same = texts(6)[kind], texts(1)[kind]
    for blocks in ([other], [same, other], [(b"eXIf", exif(3)), other]):
        assert "orientation 6" in refused(path, png(samples, 8, GREY, after=blocks))
    upright = expected(samples, GREY, 8)
    assert_read(path, png(samples, 8, GREY, before=[same, (b"tEXt", other[1][3:])]), upright)
    stored = turned(samples, 6)
    assert_read(path, png(stored, 8, GREY, before=[(b"eXIf", exif(6)), other, same]), upright)
    for length in range(len(other[1])):  # what cannot be read declares nothing, or the same
        path.write_bytes(png(samples, 8, GREY, before=[(other[0], other[1][:length])]))
        with contextlib.suppress(UserError):
            assert image_size(path, COLOUR) == SIDES


def test_a_narrow_range_is_refused(tmp_path: Path) -> None:
    samples, path = known(GREY, 8), tmp_path / "a.png"
    narrow, full = ([(b"cICP", bytes([9, 16, 0, flag]))] for flag in (0, 1))
    assert "cICP" in refused(path, png(samples, 8, GREY, before=narrow))
    assert_read(path, png(samples, 8, GREY, before=full), expected(samples, GREY, 8))
