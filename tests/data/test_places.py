"""Where images are: files, series of folders, and slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_ood.data.places import Place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a/scan.nii.gz", Place(Path("a/scan.nii.gz"))),
        ("a/scan.nii::axial=12", Place(Path("a/scan.nii"), None, "axial", 12)),
        ("study::series=4f1d", Place(Path("study"), "4f1d")),
        ("study::series=4f1d::sagittal=0", Place(Path("study"), "4f1d", "sagittal", 0)),
        ("odd::name.png", Place(Path("odd::name.png"))),
        ("scan.nii::axial=007", Place(Path("scan.nii::axial=007"))),
        ("scan.nii::axial=" + "9" * 5000, Place(Path("scan.nii::axial=" + "9" * 5000))),
    ],
)
def test_a_place_reads_back(text: str, place: Place) -> None:
    assert Place.of(text) == place
    assert str(place) == text


def test_a_file_of_that_very_name_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "scan::axial=3"
    path.touch()
    assert Place.of(path) == Place(path)
