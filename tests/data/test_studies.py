"""Trees of DICOM studies: who goes to which split, what stands for a series, and whose it is."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from dicom_files import image, phantom, save, save_series, series
from pydicom.uid import BasicTextSRStorage

from diffusion_ood.commands import get_datasets
from diffusion_ood.data import contents
from diffusion_ood.data.contents import file_digests
from diffusion_ood.data.patients import KEY, patient_of, patients
from diffusion_ood.data.readers import read_image
from diffusion_ood.data.sources.image_folder import list_images
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

VALUES = phantom().astype(np.uint16)
VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3, intensity_range=(0, 1000))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key of pseudonyms lies, not the user's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(KEY, raising=False)
    return tmp_path / "config" / "diffusion_ood"


def study(folder: Path, patient: str, number: int) -> list[Path]:
    """Two series of a patient in one folder."""
    paths = []
    for k in range(2):
        tags = {"PatientID": patient, "SeriesInstanceUID": f"1.2.{number}.{k}"}
        paths += save_series(folder, series(VALUES + number + k, **tags), f"S{k}_")
    return paths


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """12 patients with two studies each; a series alone in its folder; what is no image."""
    root = tmp_path / "in"
    for patient in range(12):
        for visit in range(2):
            study(root / f"x{7 * patient % 12}_{visit}", f"P{patient}", 2 * patient + visit)
    tags = {"PatientID": "P3", "SeriesInstanceUID": "1.2.99"}
    save_series(root / "alone" / "deep", series(VALUES, **tags))
    report = image(VALUES[:, :, 0], PixelRepresentation=None)
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = BasicTextSRStorage
    save(root / "DICOMDIR", report)
    (root / "notes.txt").write_text("x")
    return root


def test_a_series_is_a_row_and_a_patient_in_one_split(
    tree: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY, "by which the division is always the same")
    options = ["--spatial_dimension=3", "--val_fraction=0.3", "--test_fraction=0.3", "--seed=1"]
    get_datasets.main([f"--image_folder={tree}", "--name=S", f"--data_root={tmp_path}", *options])
    assert "DICOM without an image (1)" in capsys.readouterr().out
    splits = [read_split(path) for path in sorted((tmp_path / "data_splits").glob("*.csv"))]
    assert len(splits) == 3
    patients = [{patient_of(split.image_path(i)) for i in range(len(split))} for split in splits]
    assert sum(map(len, patients)) == 12
    assert len(set.union(*patients)) == 12  # type: ignore[arg-type] # all are DICOM
    names = [name for split in splits for name in split.images]
    assert len(names) == 12 * 2 * 2 + 1
    assert "../in/alone/deep" in names
    assert sum("::series=" in name for name in names) == 48
    for split in splits:
        assert read_image(split.image_path(0), VOLUME).shape == (1, 8, 6, 5)


def test_every_file_is_an_image_of_two_dimensions(tree: Path) -> None:
    images, left_out = list_images(tree)
    assert len(images) == 245
    assert left_out == {"DICOM without an image": 1, "with .txt": 1}


def test_a_folder_that_is_a_series_is_one_image(tmp_path: Path) -> None:
    save_series(tmp_path, series(VALUES))
    assert list_images(tmp_path, volumes=True)[0] == ["."]
    study(tmp_path, "P", 1)
    assert [name[:10] for name in list_images(tmp_path, volumes=True)[0]] == [".::series="] * 3


def test_a_file_that_cannot_be_read_stands_for_itself(tmp_path: Path) -> None:
    files = study(tmp_path / "a", "P", 1)
    files[0].write_bytes(files[0].read_bytes()[:300])
    images, _ = list_images(tmp_path, volumes=True)
    assert len(images) == 3
    assert f"a/{files[0].name}" in images


def test_a_patient_has_one_pseudonym_on_a_machine(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path / "1", image(VALUES[:, :, 0]))
    second = save(tmp_path / "2", image(VALUES[:, :, 1], StudyInstanceUID="1.9", PatientName="N"))
    other = save(tmp_path / "3", image(VALUES[:, :, 0], PatientID="PID-1"))
    issued = save(tmp_path / "4", image(VALUES[:, :, 0], IssuerOfPatientID="another"))
    found = [patient_of(path) for path in (first, second, other, issued)]
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert all(name is not None and int(name, 16) >= 0 and len(name) == 12 for name in found)
    (key,) = home.iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert patient_of(first) == found[0]
    key.unlink()
    assert patient_of(first) != found[0]
    assert key.read_bytes() != before
    monkeypatch.setenv(KEY, "shared by two machines")
    shared = patient_of(first)
    shutil.rmtree(home)
    assert patient_of(first) == shared
    assert not home.exists()


def test_without_a_number_the_study_is_the_patient(tmp_path: Path) -> None:
    paths = [
        save(
            tmp_path / str(k), image(VALUES[:, :, 0], PatientID="", StudyInstanceUID=f"1.{k // 2}")
        )
        for k in range(4)
    ]
    found = [patient_of(path) for path in paths]
    assert found[0] == found[1] != found[2] == found[3]
    anonymous = image(VALUES[:, :, 0], PatientID=None, StudyInstanceUID=None)
    assert patient_of(save(tmp_path / "anonymous", anonymous)) is None
    (tmp_path / "a.png").write_bytes(b"x")
    assert patient_of(tmp_path / "a.png") is None


def test_a_key_that_cannot_be_kept_is_refused(tmp_path: Path, home: Path) -> None:
    path = save(tmp_path / "1", image(VALUES[:, :, 0]))
    home.parent.mkdir()
    home.write_text("a file")
    with pytest.raises(UserError, match=KEY):
        patient_of(path)
    home.unlink()
    home.mkdir()
    (home / "patients.key").write_bytes(b"short")
    with pytest.raises(UserError, match=r"patients\.key: .* 5 bytes"):
        patient_of(path)


def test_the_digest_of_a_series_is_of_its_files_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED_NS", -(10**12))
    files = study(tmp_path / "a", "P", 1)
    images, _ = list_images(tmp_path, volumes=True)
    write_split(tmp_path / "A_test.csv", images)
    split = read_split(tmp_path / "A_test.csv")
    before = file_digests(split, tmp_path)
    assert len({*before}) == 2
    for number, path in enumerate(reversed(files)):
        os.rename(path, path.with_name(f"new{number}"))
    report = image(VALUES[:, :, 0], PixelRepresentation=None)
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = BasicTextSRStorage
    save(tmp_path / "a" / "report", report)
    assert file_digests(split, tmp_path) == before
    assert file_digests(split, tmp_path) == before
    (tmp_path / "a" / "new0").unlink()
    assert sum(a == b for a, b in zip(file_digests(split, tmp_path), before, strict=True)) == 1


def test_the_slices_of_a_series_are_of_its_patient(tmp_path: Path) -> None:
    study(tmp_path / "a", "P", 1)
    whole = list_images(tmp_path, volumes=True)[0]
    paths = [Path(f"{tmp_path / name}::axial={k}") for name in whole for k in range(3)]
    assert set(patients([*paths, tmp_path / "a.png"])) == {patient_of(paths[0]), None}
