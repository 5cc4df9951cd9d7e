"""TIFF: bits, format, polarity, byte order, layout and compression against known values."""

import io
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from raw_pictures import tiff, turned

from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
SIDES = 7, 11
WIDE = ImageOptions(intensity_range=(-1e10, 1e10))
TYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


def known(kind: str, channels: int = 1) -> npt.NDArray[Any]:
    """Samples of a type, its least and largest among them; floats lie in 0 to 1."""
    dtype = np.dtype(kind)
    rng = np.random.default_rng(7)
    if dtype.kind == "f":
        return rng.random((channels, *SIDES)).astype(dtype)
    limits = np.iinfo(dtype)
    samples = rng.integers(limits.min, limits.max, (channels, *SIDES), dtype, endpoint=True)
    samples[:, 0, :2] = limits.min, limits.max
    return samples


def as_read(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    dtype = samples.dtype if samples.dtype in (np.uint8, np.uint16) else np.float32
    return np.broadcast_to(samples.astype(dtype), (3, *samples.shape[1:]))


def assert_read(
    path: Path, content: bytes, right: npt.NDArray[Any], options: ImageOptions = WIDE
) -> None:
    path.write_bytes(content)
    image = read_image(path, options)
    assert image.dtype == right.dtype
    np.testing.assert_array_equal(image, right)
    assert image_size(path, options) == right.shape[1:]


def refused(path: Path, content: bytes, options: ImageOptions = WIDE) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_image(path, options)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, RGB])
def test_every_type_in_every_layout(
    tmp_path: Path, order: str, kind: str, photometric: int
) -> None:
    samples = known(kind, 3 if photometric == RGB else 1)
    predictors = (1, 3 if samples.dtype.kind == "f" else 2)
    layouts: list[dict[str, Any]] = [{}, {"strip": 3}, {"tile": (16, 16)}, {"tile": (16, 32)}]
    for layout, planar, big in itertools.product(layouts, (1, 2), (False, True)):
        how = {**layout, "planar": planar, "big": big, "order": order}
        assert_read(tmp_path / "a.tif", tiff(samples, photometric, **how), as_read(samples))
        for compression, predictor in itertools.product((8, 32946), predictors):
            content = tiff(
                samples, photometric, compression=compression, predictor=predictor, **how
            )
            assert_read(tmp_path / "a.tif", content, as_read(samples))
    content = tiff(samples, photometric, compression=32773, strip=2, order=order)
    assert_read(tmp_path / "a.tif", content, as_read(samples))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB])
def test_orientation_and_polarity(
    tmp_path: Path, orientation: int, kind: str, photometric: int
) -> None:
    samples = known(kind, 3 if photometric == RGB else 1)
    stored = turned(samples, orientation)
    options = WIDE
    if photometric == WHITE_IS_ZERO and samples.dtype.kind == "u":
        stored = np.iinfo(kind).max - stored
    elif photometric == WHITE_IS_ZERO and samples.dtype.kind == "f":
        options, stored = ImageOptions(), 1 - stored
        samples = 1 - turned(stored, orientation, inverse=True)
    content = tiff(stored, photometric, tags={274: (3, [orientation])})
    if photometric == WHITE_IS_ZERO and samples.dtype.kind == "i":
        refused(tmp_path / "a.tif", content)
    else:
        assert_read(tmp_path / "a.tif", content, as_read(samples), options)


def test_floats_of_which_0_is_white_have_no_range_but_0_to_1(tmp_path: Path) -> None:
    assert "white" in refused(tmp_path / "a.tif", tiff(known("f4"), WHITE_IS_ZERO))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("compression", [1, 8, 32773])
def test_few_bits_fill_the_range(tmp_path: Path, bits: int, white: bool, compression: int) -> None:
    samples = known("u1") >> (8 - bits)
    largest = 2**bits - 1
    stored = largest - samples if white else samples
    photometric = WHITE_IS_ZERO if white else BLACK_IS_ZERO
    content = tiff(stored, photometric, bits=bits, strip=2, compression=compression)
    assert_read(tmp_path / "a.tif", content, as_read(samples * np.uint8(255 // largest)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("step", [256, 257, 1])
def test_palettes(tmp_path: Path, bits: int, step: int) -> None:
    rng = np.random.default_rng(bits)
    indices = known("u1") >> (8 - bits)
    colours = rng.integers(0, 256 if step > 1 else 65_536, (3, 2**bits)) * step
    content = tiff(indices, PALETTE, bits=bits, tags={320: (3, colours.ravel().tolist())})
    values = (colours // step).astype(np.uint8 if step > 1 else np.uint16)
    assert_read(tmp_path / "a.tif", content, values[:, indices[0]])
    refused(tmp_path / "a.tif", tiff(indices, PALETTE, bits=bits))
    few = {320: (3, colours.ravel()[:-3].tolist())}
    refused(tmp_path / "a.tif", tiff(indices, PALETTE, bits=bits, tags=few))


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, RGB])
def test_alpha(tmp_path: Path, planar: int, extra: int, kind: str, photometric: int) -> None:
    samples = known(kind, 4 if photometric == RGB else 2)
    opaque = 1 if kind == "f4" else np.iinfo(kind).max
    samples[-1] = opaque
    how: dict[str, Any] = {"planar": planar, "extra": [extra]}
    content = tiff(samples, photometric, **how)
    assert_read(tmp_path / "a.tif", content, as_read(samples[:-1]))
    samples[-1, 3, 3] = opaque / 2
    assert "transparent" in refused(tmp_path / "a.tif", tiff(samples, photometric, **how))


def test_ink_is_converted_as_pillow_does(tmp_path: Path) -> None:
    ink = known("u1", 4)
    light = Image.fromarray(ink.transpose(1, 2, 0).copy(), "CMYK").convert("RGB")
    right = np.asarray(light).transpose(2, 0, 1)
    formula = (255.0 - ink[:3]) * (255 - ink[3:]) / 255
    np.testing.assert_allclose(right, formula, atol=1)
    assert_read(tmp_path / "a.tif", tiff(ink, CMYK), right)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", ["L", "RGB", "I;16", "F", "1", "P", "RGBA", "LA"])
def test_libtiffs_files_are_read_as_pillow_reads_them(
    tmp_path: Path, compression: str | None, kind: str
) -> None:
    colours = Image.fromarray(known("u1", 3).transpose(1, 2, 0).copy())
    if kind in ("I;16", "F"):
        picture = Image.fromarray(known({"I;16": "u2", "F": "f4"}[kind])[0])
    else:
        picture = colours.convert(kind)
    picture.save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as found:
        same = found if kind in ("I;16", "F") else found.convert("RGB")
        right = np.atleast_3d(np.asarray(same)).transpose(2, 0, 1)
    assert_read(tmp_path / "a.tif", (tmp_path / "a.tif").read_bytes(), as_read(right))


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "f4"])
def test_lzw_with_predictors(tmp_path: Path, predictor: int, kind: str) -> None:
    samples = known(kind)
    if (predictor == 3) != (kind == "f4") and predictor != 1:
        return
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, samples[0], compression="lzw", predictor=predictor, rowsperstrip=3)
    assert_read(path, path.read_bytes(), as_read(samples))
    if kind in ("u1", "u2", "f4"):
        with Image.open(path) as found:  # libtiff
            np.testing.assert_array_equal(np.asarray(found), samples[0])


@pytest.mark.parametrize("kind", ["L", "YCbCr"])
def test_jpeg_within_tiff(tmp_path: Path, kind: str) -> None:
    smooth = np.linspace(0, 255, 32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)
    Image.fromarray(smooth).convert(kind).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    with Image.open(tmp_path / "a.tif") as found:
        right = np.asarray(found.convert("RGB")).transpose(2, 0, 1)
    image = read_image(tmp_path / "a.tif", ImageOptions())
    np.testing.assert_allclose(image.astype(int), right, atol=2)


# Tags of a grey image of 8 bits that say something else, and what of it the sentence names.
UNTESTED: dict[str, dict[int, Any]] = {
    "ImageDepth 2": {32997: (4, [2])},
    "NewSubfileType 1": {254: (4, [1])},
    "NewSubfileType 4": {254: (4, [4])},
    "BitsPerSample 12": {258: (3, [12])},
    "BitsPerSample 64": {258: (3, [64]), 339: (3, [1])},
    "BitsPerSample 8, 8, 16": {258: (3, [8, 8, 16]), 277: (3, [3]), 262: (3, [2])},
    "SampleFormat 4": {339: (3, [4])},
    "SampleFormat 6": {339: (3, [6])},
    "Compression 2": {259: (3, [2])},
    "Compression 6": {259: (3, [6])},
    "Compression 50000": {259: (3, [50000])},
    "PhotometricInterpretation None": {262: None},
    "PhotometricInterpretation 4": {262: (3, [4])},
    "PhotometricInterpretation 8": {262: (3, [8])},
    "PhotometricInterpretation 32803": {262: (3, [32803])},
    "photometric=2": {262: (3, [2])},
    "photometric=6": {262: (3, [6])},
    "FillOrder 2": {266: (3, [2])},
    "SamplesPerPixel 5": {277: (3, [5])},
    "samples=2": {277: (3, [2])},
    "extra=(0,)": {277: (3, [2]), 338: (3, [0])},
    "extra=(2, 2)": {277: (3, [3]), 338: (3, [2, 2])},
    "Predictor 4": {317: (3, [4])},
    "predictor=2": {317: (3, [2])},
    "PlanarConfiguration 3": {284: (3, [3])},
    "ImageWidth": {256: (3, [11, 12])},
    "0 x 11": {257: (4, [0])},
    "1100000000": {257: (4, [100_000_000])},
    "early": {279: (4, [1000])},
    "strip": {279: (4, [50])},
    "damaged": {700: (99, [])},
}


@pytest.mark.parametrize("found", UNTESTED)
def test_what_is_not_tested_is_refused_by_name(tmp_path: Path, found: str) -> None:
    tags = UNTESTED[found]
    if 700 in tags:
        content = tiff(known("u1"), BLACK_IS_ZERO, tags={700: (3, [1])})
        content = content.replace(b"\xbc\x02\x03\x00", b"\xbc\x02\x63\x00")
    else:
        content = tiff(known("u1"), BLACK_IS_ZERO, tags=tags)
    sentence = refused(tmp_path / "a.tif", content)
    if found not in ("strip", "BitsPerSample 64"):
        assert found in sentence


def test_values_of_32_bits_need_a_range_that_float32_can_tell_apart(tmp_path: Path) -> None:
    content = tiff(known("u4"), BLACK_IS_ZERO)
    refused(tmp_path / "a.tif", content, ImageOptions())
    high = ImageOptions(intensity_range=(2.0**32 - 1000, 2.0**32 - 1))
    assert "float32" in refused(tmp_path / "a.tif", content, high)


def test_frames_that_a_description_hides_are_refused(tmp_path: Path) -> None:
    for text in (b"ImageJ=1.53\nimages=5\nslices=5\n\0", b'{"shape": [5, 7, 11]}\0'):
        content = tiff(known("u1"), BLACK_IS_ZERO, tags={270: (1, list(text))})
        content = content.replace(b"\x0e\x01\x01\x00", b"\x0e\x01\x02\x00")  # of type ASCII
        assert "5 frames" in refused(tmp_path / "a.tif", content)


def test_two_pages_are_refused_and_nothing_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pages = [Image.fromarray(page) for page in known("u1", 2)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "2 frames" in refused(tmp_path / "a.tif", file.getvalue())
        refused(tmp_path / "a.tif", tiff(known("u1"), 1, tags={273: None}))
    assert capsys.readouterr() == ("", "")
    assert not caplog.records
