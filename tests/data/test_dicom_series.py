"""DICOM series as volumes: sorted by position, in the patient's space, whole or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_files import (
    AXIAL,
    OBLIQUE,
    affine,
    enhanced,
    image,
    phantom,
    refused,
    save,
    save_series,
    series,
)
from pydicom import FileDataset
from pydicom.uid import BasicTextSRStorage, RLELossless

from diffusion_ood.data.formats import dicom
from diffusion_ood.data.formats.dicom_series import open_series, series_of
from diffusion_ood.data.opening import Content
from diffusion_ood.data.places import Place
from diffusion_ood.data.readers import image_size, read_image, read_image_bytes
from diffusion_ood.data.volumes import open_volume, oriented
from diffusion_ood.options import ImageOptions

VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3, intensity_range=(-5000, 70_000))
WHOLE = (slice(None),) * 3
VALUES = phantom()
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, FLIPPED, OBLIQUE])
def test_a_series_is_the_nifti_of_its_volume(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    stored = VALUES.astype(np.int16)
    files = series(stored, orientation=orientation, RescaleSlope=2, RescaleIntercept=-1024)
    save_series(tmp_path / "study", files)
    volume = open_volume(Place(tmp_path / "study"))
    assert volume.shape == VALUES.shape
    np.testing.assert_allclose(volume.affine, affine(orientation), atol=1e-5)
    np.testing.assert_array_equal(volume.load(WHOLE), 2 * VALUES - 1024)
    header = nibabel.Nifti1Image(stored, affine(orientation))
    header.header.set_slope_inter(2, -1024)
    nibabel.save(header, tmp_path / "same.nii.gz")
    same = open_volume(Place(tmp_path / "same.nii.gz"))
    np.testing.assert_array_equal(oriented(volume, VOLUME), oriented(same, VOLUME))
    found = read_image(tmp_path / "study", VOLUME)
    np.testing.assert_array_equal(found, read_image(tmp_path / "same.nii.gz", VOLUME))
    assert image_size(tmp_path / "study", VOLUME) == found.shape[1:]


def test_only_the_slices_of_a_box_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = open_series(save_series(tmp_path, series(VALUES.astype(np.uint16))))
    numbers: list[int] = []
    decoded = dicom.decoded

    def counting(file: Any, pixels: Any, chosen: Any, scalings: Any) -> Any:
        numbers.extend(chosen)
        return decoded(file, pixels, chosen, scalings)

    monkeypatch.setattr(dicom, "decoded", counting)
    found = volume.load((slice(1, 4), slice(2, 5), slice(3, 5)))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, VALUES[1:4, 2:5, 3:5])
    assert len(numbers) == 2


def test_slopes_may_differ_by_slice(tmp_path: Path) -> None:
    """As in PET."""
    files = series(VALUES.astype(np.int16))
    for number, file in enumerate(files):
        file.RescaleSlope, file.RescaleIntercept = number + 0.5, number
    save_series(tmp_path, files)
    slopes = np.arange(5)
    np.testing.assert_allclose(
        open_volume(Place(tmp_path)).load(WHOLE), VALUES * (slopes + 0.5) + slopes, rtol=1e-6
    )


def test_two_series_in_a_folder_are_named(tmp_path: Path) -> None:
    save_series(tmp_path, series(VALUES.astype(np.uint16)), "A")
    save_series(tmp_path, series(VALUES.astype(np.uint16) + 1, SeriesInstanceUID="1.2.9"), "B")
    digests = sorted(series_of(tmp_path))
    assert [len(digest) for digest in digests] == [12, 12]
    sentence = refused(tmp_path, VOLUME)
    assert all(str(Place(tmp_path, digest)) in sentence for digest in digests)
    both = [read_image(Path(f"{tmp_path}::series={digest}"), VOLUME) for digest in digests]
    assert sorted(int(np.abs(v - both[0]).max()) for v in both) == [0, 1]
    assert digests[0] in refused(Path(f"{tmp_path}::series=0123456789ab"), VOLUME)


def test_what_has_no_pixels_is_passed_over(tmp_path: Path) -> None:
    files = save_series(tmp_path / "a", series(VALUES.astype(np.uint16)))
    stray = image(VALUES[:, :, 0].astype(np.uint16))
    del stray.PixelData
    save(tmp_path / "a" / "stray", stray)
    report = image(VALUES[:, :, 0].astype(np.uint16), PixelRepresentation=None)
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = BasicTextSRStorage
    save(tmp_path / "a" / "below" / "report.dcm", report)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / ".hidden.dcm").write_bytes(b"x")
    assert [sorted(found) for found in series_of(tmp_path).values()] == [sorted(files)]


def without(name: str) -> Callable[[list[FileDataset]], object]:
    return lambda files: [delattr(file, name) for file in files]


def setting(number: int, name: str, value: object) -> Callable[[list[FileDataset]], object]:
    return lambda files: setattr(files[number], name, value)


def moved(number: int, by: tuple[float, float, float]) -> Callable[[list[FileDataset]], object]:
    def move(files: list[FileDataset]) -> None:
        position = np.array(files[number].ImagePositionPatient, float) + by
        files[number].ImagePositionPatient = position.tolist()

    return move


FINDINGS: dict[str, tuple[Callable[[list[FileDataset]], object], str]] = {
    "one is missing": (lambda files: files.pop(2), "1 missing slice, the first at 45 mm"),
    "two are missing": (lambda files: (files.pop(2), files.pop(2)), "2 missing slices"),
    "uneven": (moved(2, (0, 0, 0.4)), "uneven"),
    "beside": (moved(2, (0.5, 0, 0)), "uneven"),
    "twice": (moved(2, (0, 0, 2.5)), "several slices at 47.5 mm"),
    "all at one place": (
        lambda files: [setattr(f, "ImagePositionPatient", [0, 0, 0]) for f in files],
        "several slices at 0 mm",
    ),
    "one slice": (lambda files: files.__delitem__(slice(1, None)), "1 slice"),
    "a turned one": (setting(1, "ImageOrientationPatient", list(CORONAL)), "orientation"),
    "another spacing": (setting(1, "PixelSpacing", [0.5, 0.8]), "PixelSpacing"),
    "other coordinates": (setting(1, "FrameOfReferenceUID", "1.2"), "frames of reference"),
    "no position": (without("ImagePositionPatient"), "ImagePositionPatient"),
    "no orientation": (without("ImageOrientationPatient"), "ImageOrientationPatient"),
    "no spacing": (without("PixelSpacing"), "PixelSpacing"),
    "spacing 0": (setting(1, "PixelSpacing", [0, 0.75]), "PixelSpacing"),
    "parallel": (setting(1, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "perpendicular"),
}


@pytest.mark.parametrize("case", FINDINGS)
def test_what_is_no_volume_is_named_as_the_finding_that_it_is(tmp_path: Path, case: str) -> None:
    change, words = FINDINGS[case]
    files = series(VALUES.astype(np.uint16))
    change(files)
    save_series(tmp_path, files)
    assert words in refused(tmp_path, VOLUME)


def test_slices_of_other_sides_are_refused(tmp_path: Path) -> None:
    files = series(VALUES.astype(np.uint16))
    save_series(tmp_path, [*files[:-1], *series(VALUES[:4].astype(np.uint16))[-1:]])
    assert "4 x 6" in refused(tmp_path, VOLUME)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@pytest.mark.parametrize("slopes", [None, {k: k + 1.0 for k in range(5)}])
def test_one_file_of_many_frames_is_the_same_volume(
    tmp_path: Path, orientation: tuple[float, ...], slopes: dict[int, float] | None
) -> None:
    path = save(
        tmp_path / "all", enhanced(VALUES.astype(np.uint16), slopes, orientation=orientation)
    )
    volume = open_volume(Place(path))
    np.testing.assert_allclose(volume.affine, affine(orientation), atol=1e-5)
    expected = VALUES if slopes is None else VALUES * np.arange(5, 0, -1) - 5
    np.testing.assert_array_equal(volume.load(WHOLE), expected)
    found = read_image_bytes(path.read_bytes(), "all", VOLUME)
    np.testing.assert_array_equal(found, read_image(path, VOLUME))
    assert open_series([Content("all", path.read_bytes())]).shape == VALUES.shape


def test_frames_at_even_steps_need_no_positions_of_their_own(tmp_path: Path) -> None:
    """As in nuclear medicine; a film has times instead."""
    frames = np.ascontiguousarray(VALUES.astype(np.uint16).T)
    tags: dict[str, Any] = {"ImageOrientationPatient": list(AXIAL), "PixelSpacing": [0.5, 0.75]}
    tags |= {"ImagePositionPatient": [-20, 13, 40], "SpacingBetweenSlices": 2.5}
    volume = open_volume(Place(save(tmp_path / "all", image(frames, **tags))))
    np.testing.assert_allclose(volume.affine, affine())
    np.testing.assert_array_equal(volume.load(WHOLE), VALUES)
    film = save(tmp_path / "film", image(frames, **tags, FrameTime=40))
    assert "without positions" in refused(film, VOLUME)
    tags.pop("SpacingBetweenSlices")
    assert "without positions" in refused(save(tmp_path / "cine", image(frames, **tags)), VOLUME)


def test_compressed_frames_are_read_one_by_one(tmp_path: Path) -> None:
    dataset = enhanced(VALUES.astype(np.uint16))
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    volume = open_volume(Place(save(tmp_path / "all", dataset)))
    np.testing.assert_array_equal(volume.load((*WHOLE[:2], slice(1, 3))), VALUES[:, :, 1:3])


def test_colour_and_single_frames_are_no_volume(tmp_path: Path) -> None:
    colour = save(tmp_path / "colour", image(np.zeros((4, 5, 3), np.uint8)))
    assert "colour" in refused(colour, VOLUME)
    (tmp_path / "empty").mkdir()
    assert "series" in refused(tmp_path / "empty", VOLUME)


def test_a_range_that_no_type_tells_has_to_be_given(tmp_path: Path) -> None:
    save_series(tmp_path, series(VALUES.astype(np.uint16), BitsStored=12, HighBit=11))
    options = ImageOptions(is_grayscale=True, spatial_dimension=3)
    assert "from 0 to 4095" in refused(tmp_path, options)


@pytest.mark.parametrize("size", [140, 400, 700, 900])
def test_a_slice_that_cannot_be_read_is_not_left_out(tmp_path: Path, size: int) -> None:
    files = save_series(tmp_path, series(VALUES.astype(np.uint16)))
    files[0].write_bytes(files[0].read_bytes()[:size])
    assert files[0].name in refused(tmp_path, VOLUME)
