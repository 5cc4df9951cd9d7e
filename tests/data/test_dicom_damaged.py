"""Damaged DICOM: one sentence each, without a traceback, and in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import PATIENT, UIDS, enhanced, image, phantom, save, save_series, series
from pydicom import FileDataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from diffusion_ood.data.readers import read_image, read_image_bytes
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

VALUES = phantom().astype(np.uint16)
FLAT = ImageOptions(is_grayscale=True, intensity_range=(0, 1000))
VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3, intensity_range=(0, 1000))
pytestmark = pytest.mark.filterwarnings("error")
Change = Callable[[FileDataset], object]


def tags(**values: Any) -> Change:
    return lambda file: [setattr(file, name, value) for name, value in values.items()]


def drop(name: str) -> Change:
    return lambda file: delattr(file, name)


def pixels(change: Callable[[bytes], bytes]) -> Change:
    return lambda file: setattr(file, "PixelData", change(file.PixelData))


def syntax(value: str, data: bytes = b"") -> Change:
    """Pixels of another compression than they are."""

    def change(file: FileDataset) -> None:
        if value == RLELossless:
            file.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
            file.PixelData = file.PixelData[:24] + data + file.PixelData[24 + len(data) :]
            return
        file.file_meta.TransferSyntaxUID = value
        item = b"\xfe\xff\x00\xe0"
        length = len(data).to_bytes(4, "little")
        file.PixelData = item + bytes(4) + item + length + data + b"\xfe\xff\xdd\xe0" + bytes(4)
        file["PixelData"].is_undefined_length = True

    return change


NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
NEEDED += ("PhotometricInterpretation", "SamplesPerPixel", "PixelData")
HUGE_JPEG = b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00" + bytes(64)
HUGE_J2K = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + 2 * b"\x00\x01\x00\x00" + bytes(64)

OF_A_PICTURE: dict[str, Change] = {
    **{f"no {name}": drop(name) for name in NEEDED},
    "Rows too many": tags(Rows=60_000),
    "Columns too many": tags(Columns=9),
    "Rows 0": tags(Rows=0),
    "Columns 0": tags(Columns=0),
    "sides of gigabytes": tags(Rows=65_535, Columns=65_535),
    "a billion frames": tags(NumberOfFrames=1_000_000_000),
    "frames below 0": tags(NumberOfFrames=-1),
    "7 bits allocated": tags(BitsAllocated=7),
    "64 bits": tags(BitsAllocated=64, BitsStored=64, HighBit=63),
    "more bits stored than allocated": tags(BitsStored=20, HighBit=19),
    "no bits": tags(BitsStored=0, HighBit=0),
    "bits in the middle": tags(BitsStored=12, HighBit=13),
    "colour of one sample": tags(PhotometricInterpretation="RGB"),
    "a palette without its table": tags(PhotometricInterpretation="PALETTE COLOR"),
    "no known colours": tags(PhotometricInterpretation="HSV"),
    "7 samples": tags(SamplesPerPixel=7),
    "slope 0": tags(RescaleSlope=0, RescaleIntercept=1),
    "pixels too short": pixels(lambda data: data[: len(data) // 2 * 2 // 3 // 2 * 2]),
    "no pixels": pixels(lambda _: b""),
    "a film": syntax(MPEG2MPML, b"x" * 64),
    "deflated": lambda file: setattr(
        file.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian
    ),
    "unknown syntax": lambda file: setattr(file.file_meta, "TransferSyntaxUID", "1.2.3.4"),
    "RLE of nonsense": syntax(RLELossless, b"\xff" * 30),
    "JPEG of nonsense": syntax(JPEGBaseline8Bit, b"\xff\xd8" + b"x" * 62),
    "JPEG of gigabytes": syntax(JPEGBaseline8Bit, HUGE_JPEG),
    "JPEG 2000 of gigabytes": syntax(JPEG2000Lossless, HUGE_J2K),
    "JPEG 2000 of nothing": syntax(JPEG2000Lossless, b"\0" * 16),
    "a table of values": tags(ModalityLUTSequence=[image(VALUES[:, :, 0])]),
    "doses": tags(DoseGridScaling=0.1),
}
OF_A_VOLUME: dict[str, Change] = {
    "fewer positions than frames": lambda file: file.PerFrameFunctionalGroupsSequence.pop(),
    "a frame without a position": lambda file: delattr(
        file.PerFrameFunctionalGroupsSequence[2], "PlanePositionSequence"
    ),
    "frames without groups": drop("PerFrameFunctionalGroupsSequence"),
    "no shared group": drop("SharedFunctionalGroupsSequence"),
    "a billion frames": tags(NumberOfFrames=1_000_000_000),
    "pixels too short": pixels(lambda data: data[:-40]),
    "two numbers in a position": lambda file: setattr(
        file.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0],
        "ImagePositionPatient",
        [1, 2],
    ),
}


def refused(path: Path, options: ImageOptions) -> None:
    """In one sentence without a patient's tag, from a file and from its bytes, in 40 MB."""
    found = []
    for read in (
        lambda: read_image(path, options),
        lambda: read_image_bytes(path.read_bytes(), str(path), options),
    ):
        tracemalloc.start()
        with pytest.raises(UserError) as caught:
            read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6
        found += caught.value.args
    assert len(found) == 2
    for sentence in found:
        assert sentence.startswith(f"{path}: ")
        assert "\n" not in sentence
        assert not any(value in sentence for value in (*PATIENT.values(), *UIDS))


@pytest.mark.parametrize("case", OF_A_PICTURE)
def test_a_damaged_picture_is_a_sentence(tmp_path: Path, case: str) -> None:
    (file,) = series(VALUES[:, :, :1])
    OF_A_PICTURE[case](file)
    refused(save(tmp_path / "IM1", file), FLAT)


@pytest.mark.parametrize("case", OF_A_VOLUME)
def test_a_damaged_volume_is_a_sentence(tmp_path: Path, case: str) -> None:
    file = enhanced(VALUES)
    OF_A_VOLUME[case](file)
    refused(save(tmp_path / "all", file), VOLUME)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.14, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999])
def test_a_file_that_was_cut_off_is_a_sentence(tmp_path: Path, share: float) -> None:
    picture = save(tmp_path / "IM1", series(VALUES[:, :, :1])[0])
    frames = save(tmp_path / "all", enhanced(VALUES))
    for path, options in ((picture, FLAT), (frames, VOLUME)):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError) as caught:
            read_image(path, options)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).count("\n") == 0


def test_flipped_bytes_are_an_image_or_a_sentence(tmp_path: Path) -> None:
    path = save(tmp_path / "IM1", series(VALUES[:, :, :1])[0])
    whole, random = path.read_bytes(), np.random.default_rng(0)
    others = {UserError, np.ndarray}
    for _ in range(200):
        torn = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            torn[at] ^= 1 << int(random.integers(8))
        others.discard(type(outcome(bytes(torn))))
    assert not others


def outcome(data: bytes) -> np.ndarray | UserError:
    """An image, or a sentence that quotes nothing."""
    try:
        return read_image_bytes(data, "x", FLAT)
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right
        return error


def test_one_damaged_slice_is_named(tmp_path: Path) -> None:
    files = save_series(tmp_path, series(VALUES))
    files[2].write_bytes(files[2].read_bytes()[:-8])
    with pytest.raises(UserError, match=files[2].name):
        read_image(tmp_path, VOLUME)
