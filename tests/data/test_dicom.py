"""DICOM files as images: what becomes of their samples, and what is refused."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import PATIENT, image, phantom, refused, save
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from diffusion_ood.data.formats.dicom_streams import stream_sides
from diffusion_ood.data.readers import image_size, read_image, read_image_bytes
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

WIDE = ImageOptions(is_grayscale=True, intensity_range=(-5000, 70_000))
GREY, COLOUR = ImageOptions(is_grayscale=True), ImageOptions()
VALUES = phantom((6, 8, 1), 250)[:, :, 0]


def grey(kind: type[np.generic] = np.uint16, **tags: Any) -> Any:
    return image(VALUES.astype(kind), **tags)


def read(tmp_path: Path, dataset: Any, options: ImageOptions = WIDE) -> np.ndarray:
    path = save(tmp_path / "IM1", dataset)
    assert image_size(path, options) == (dataset.Rows, dataset.Columns)
    found = read_image(path, options)
    np.testing.assert_array_equal(found, read_image_bytes(path.read_bytes(), "x", options))
    return found


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_whole_samples_are_as_in_other_formats(tmp_path: Path, kind: type[np.generic]) -> None:
    found = read(tmp_path, grey(kind), GREY)
    assert found.dtype == kind
    np.testing.assert_array_equal(found[0], VALUES)


@pytest.mark.parametrize("tags", [
    {"BitsStored": 12, "HighBit": 11},
    {"RescaleSlope": 2, "RescaleIntercept": -1024},
    {"PixelRepresentation": 1},
])  # fmt: skip
def test_a_range_that_no_type_tells_has_to_be_given(tmp_path: Path, tags: dict[str, Any]) -> None:
    """Of 65,535 whites, 12 bits would be black."""
    dataset = grey(**tags)
    slope, intercept = tags.get("RescaleSlope", 1), tags.get("RescaleIntercept", 0)
    np.testing.assert_array_equal(read(tmp_path, dataset)[0], slope * VALUES + intercept)
    assert "`intensity_range`" in refused(tmp_path / "IM1", GREY)


def test_slope_and_intercept_and_sign_are_applied(tmp_path: Path) -> None:
    stored = (VALUES - 125).astype(np.int16)
    found = read(tmp_path, image(stored, RescaleSlope=0.5, RescaleIntercept=-7.25))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], stored * 0.5 - 7.25, rtol=1e-7)


def test_what_lies_above_the_stored_bits_is_no_value(tmp_path: Path) -> None:
    """Older files keep overlays there; signs lie in the highest stored bit."""
    overlaid = (VALUES | 0xA000).astype(np.uint16)
    found = read(tmp_path, image(overlaid, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(found[0], VALUES)
    signed = ((VALUES - 125) & 0x0FFF).astype(np.uint16)
    found = read(tmp_path, image(signed, BitsStored=12, HighBit=11, PixelRepresentation=1))
    np.testing.assert_array_equal(found[0], VALUES - 125)


@pytest.mark.parametrize(
    ("kind", "bits", "tags"),
    [
        (np.uint8, 8, {}),
        (np.uint16, 16, {}),
        (np.uint16, 12, {}),
        (np.uint16, 12, {"RescaleSlope": 3, "RescaleIntercept": -9}),
        (np.uint16, 12, {"RescaleSlope": 3, "RescaleIntercept": -9, "RescaleType": "US"}),
    ],
)
def test_high_is_bright(
    tmp_path: Path, kind: type[np.generic], bits: int, tags: dict[str, Any]
) -> None:
    stored = (2**bits - 1 - VALUES).astype(kind)
    tags |= {"BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": "MONOCHROME1"}
    expected = tags.get("RescaleSlope", 1) * VALUES + tags.get("RescaleIntercept", 0)
    np.testing.assert_array_equal(read(tmp_path, image(stored, **tags))[0], expected)


def test_values_with_a_unit_are_high_where_they_are_high(tmp_path: Path) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleType": "HU"}
    found = read(tmp_path, grey(RescaleSlope=1, RescaleIntercept=-1024, **tags))
    np.testing.assert_array_equal(found[0], VALUES - 1024)


def test_single_bits_are_black_and_white(tmp_path: Path) -> None:
    bits = VALUES > 100
    dataset = image(bits.astype(np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = np.packbits(bits, bitorder="little").tobytes()
    np.testing.assert_array_equal(read(tmp_path, dataset, GREY)[0], 255 * bits)


def test_colour_is_rgb(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    found = read(tmp_path, image(pixels), COLOUR)
    np.testing.assert_array_equal(found, np.moveaxis(pixels, -1, 0))
    planes = image(pixels, PlanarConfiguration=1)
    planes.PixelData = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).tobytes()
    np.testing.assert_array_equal(read(tmp_path, planes, COLOUR), np.moveaxis(pixels, -1, 0))


def test_a_palette_is_rgb(tmp_path: Path) -> None:
    dataset = grey(np.uint8, PhotometricInterpretation="PALETTE COLOR")
    tables = np.random.default_rng(0).integers(0, 256, (3, 256), dtype=np.uint8)
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(dataset, f"{name}PaletteColorLookupTableData", table.tobytes())
    np.testing.assert_array_equal(read(tmp_path, dataset, COLOUR), tables[:, VALUES])


def test_compressed_is_as_it_was(tmp_path: Path) -> None:
    dataset = grey(BitsStored=12, HighBit=11)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    np.testing.assert_array_equal(read(tmp_path, dataset)[0], VALUES)


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("MR_small_RLE.dcm", ()),
        ("MR_small_bigendian.dcm", ()),
        ("MR_small_implicit.dcm", ()),
        ("MR_small_jp2klossless.dcm", ()),
        ("MR_small_jpeg_ls_lossless.dcm", ("pylibjpeg", "libjpeg")),
    ],
)
def test_one_image_in_every_syntax_has_one_value(name: str, packages: tuple[str, ...]) -> None:
    for package in packages:
        pytest.importorskip(package)
    options = ImageOptions(is_grayscale=True, intensity_range=(0, 4000))
    right = read_image(Path(get_testdata_file("MR_small.dcm", download=False)), options)
    found = read_image(Path(get_testdata_file(name, download=False)), options)
    np.testing.assert_array_equal(found, right)
    assert right.max() == 2145


def test_a_syntax_without_a_decoder_names_it_and_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    sentence = refused(
        Path(get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)), WIDE
    )
    assert "JPEG-LS Lossless" in sentence
    assert "diffusion-ood[dicom]" in sentence


def test_pydicoms_own_files_are_images_or_a_sentence(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    folder = Path(pydicom.__path__[0], "data", "test_files")
    options, found, sentences = ImageOptions(intensity_range=(-4000, 4000)), set(), []
    for path in folder.glob("*.dcm"):
        try:
            read_image(path, options)
            found.add(path.name)
        except UserError as error:
            sentences.append(str(error))
    assert len(found) > 40
    assert not any("\n" in sentence for sentence in sentences)
    assert not caplog.records
    assert not recwarn.list
    assert "rtdose.dcm" not in found
    assert logging.getLogger("pydicom").propagate


def test_streams_tell_their_sides() -> None:
    from PIL import Image

    for kind in ("JPEG", "JPEG2000"):
        file = io.BytesIO()
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(file, kind)
        assert stream_sides(file.getvalue()) == (5, 7, 3)
    assert stream_sides(b"\0\0") is None


def test_several_frames_are_no_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "cine", image(np.zeros((3, 4, 5), np.uint8)))
    assert "3 frames" in refused(path, WIDE)


def test_names_say_nothing_and_patients_stay_out(tmp_path: Path) -> None:
    """A file is DICOM by its first bytes; no sentence quotes its elements."""
    path = save(tmp_path / "scan.png", grey(np.uint8, SamplesPerPixel=2))
    sentence = refused(path, WIDE)
    assert "samples" in sentence
    assert not any(value in sentence for value in PATIENT.values())
