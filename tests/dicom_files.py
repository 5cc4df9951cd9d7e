"""Writes DICOM: series of a phantom in any orientation, and files of many frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from diffusion_ood.data.readers import read_image
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

PATIENT = {
    "PatientName": "Zebrafish^Quagga",
    "PatientID": "PID-77341",
    "PatientBirthDate": "19530217",
    "AccessionNumber": "ACC-90210",
    "StudyDate": "20190704",
    "InstitutionName": "Okapi Hospital",
    "ReferringPhysicianName": "Numbat^Quoll",
    "StudyDescription": "KNEE-AXOLOTL",
}
"""Values that no output may hold."""
UIDS = ("1.2.826.0.1.3680043.8.498.777",)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


def phantom(shape: tuple[int, int, int] = (8, 6, 5), top: int = 1000) -> np.ndarray:
    """Whole numbers from 0 to `top` without a symmetry, (columns, rows, slices)."""
    return np.random.default_rng(0).integers(0, top + 1, shape).astype(np.int32)


def image(pixels: np.ndarray, **tags: Any) -> FileDataset:
    """A file of one frame (rows, columns), colour (rows, columns, 3), or frames of grey."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"{UIDS[0]}.{generate_uid().split('.')[-1][:9]}"
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    bits = 8 * pixels.dtype.itemsize
    given: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": f"{UIDS[0]}.1",
        "SeriesInstanceUID": f"{UIDS[0]}.2",
        "FrameOfReferenceUID": f"{UIDS[0]}.3",
        "Modality": "CT",
        **PATIENT,
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "Rows": pixels.shape[-3 if colour else -2],
        "Columns": pixels.shape[-2 if colour else -1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        given["PlanarConfiguration"] = 0
    elif pixels.ndim == 3:
        given["NumberOfFrames"] = len(pixels)
    for name, value in {**given, **tags}.items():
        if value is not None:
            setattr(found, name, value)
    found.PixelData = pixels.tobytes()
    if len(found.PixelData) % 2:
        found.PixelData += b"\0"
    return found


def save(path: Path, dataset: FileDataset) -> Path:
    """Write a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def series(
    volume: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, 13.0, 40.0),
    spacing: Sequence[float] = (0.5, 0.75),
    step: float = 2.5,
    **tags: Any,
) -> list[FileDataset]:
    """The slices of stored values (columns, rows, slices), uint8, int16, uint16 or int32."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        image(
            np.ascontiguousarray(volume[:, :, k].T),
            ImageOrientationPatient=list(orientation),
            ImagePositionPatient=(np.array(origin) + k * step * normal).round(6).tolist(),
            PixelSpacing=list(spacing),
            InstanceNumber=len(range(k, volume.shape[2])),  # against the positions
            **tags,
        )
        for k in range(volume.shape[2])
    ]


def save_series(folder: Path, files: Sequence[FileDataset], prefix: str = "IM") -> list[Path]:
    """Write the slices under names that say nothing of their order, without a suffix."""
    names = np.random.default_rng(1).permutation(len(files)) * 7 + 100
    return [save(folder / f"{prefix}{n}", file) for n, file in zip(names, files, strict=True)]


def affine(
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, 13.0, 40.0),
    spacing: Sequence[float] = (0.5, 0.75),
    step: float = 2.5,
) -> np.ndarray:
    """The NIfTI affine (RAS+) of `series`' volume, by the formula of PS3.3 C.7.6.2.1.1."""
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    columns = (across * spacing[1], down * spacing[0], np.cross(across, down) * step, origin)
    found = np.vstack([np.stack(columns, axis=1), [0, 0, 0, 1]])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ found


def enhanced(
    volume: np.ndarray, slopes: Mapping[int, float] | None = None, **options: Any
) -> FileDataset:
    """One file of all slices, last one first, with what is common shared."""
    slices = series(volume, **options)[::-1]
    frames = np.stack([s.pixel_array for s in slices])
    found = image(frames)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(slices[0], "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_item(slices[0], "PixelSpacing")]
    found.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, one in enumerate(slices):
        group = Dataset()
        group.PlanePositionSequence = [_item(one, "ImagePositionPatient")]
        if slopes:
            value = Dataset()
            value.RescaleSlope, value.RescaleIntercept = slopes[number], -5
            group.PixelValueTransformationSequence = [value]
        groups.append(group)
    found.PerFrameFunctionalGroupsSequence = groups
    return found


def _item(source: Dataset, tag: str) -> Dataset:
    item = Dataset()
    setattr(item, tag, getattr(source, tag))
    return item


def refused(path: Path, options: ImageOptions) -> str:
    """The one sentence with which reading this fails."""
    with pytest.raises(UserError) as caught:
        read_image(path, options)
    (sentence,) = caught.value.args
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence
