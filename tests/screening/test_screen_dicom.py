"""Screening of DICOM: which files are images or volumes, whose they are, and what stays unsaid."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from dicom_files import PATIENT, UIDS, image, phantom, save, save_series, series
from pydicom import FileDataset
from pydicom.uid import BasicTextSRStorage
from ramps import JOINED, noise, ramps

from diffusion_ood import Detector, Diffusion
from diffusion_ood.commands import screen
from diffusion_ood.options import ImageOptions
from diffusion_ood.screening.inputs import for_model, gather

FLAT = ImageOptions(is_grayscale=True)
VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3)
VALUES = phantom().astype(np.uint16)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_OOD_PATIENT_KEY", "of tests")


def report() -> FileDataset:
    found = image(VALUES[:, :, 0], PixelRepresentation=None)
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = BasicTextSRStorage
    return found


def test_a_model_of_volumes_takes_series_and_one_of_images_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    save_series(root / "one", series(VALUES))
    for k in range(2):
        files = series(VALUES, SeriesInstanceUID=f"1.{k}", PatientID=f"P{k}")
        save_series(root / "two", files, f"S{k}_")
    (root / "two" / "broken.dcm").write_bytes(b"x")
    (root / "volume.nii.gz").write_bytes(b"x")
    (root / "notes").write_text("x")
    save(root / "DICOMDIR", report())
    items = gather([root])
    said = capsys.readouterr().err
    assert "1 file without an image's name" in said
    assert "1 file of DICOM without an image" in said
    assert len(items) == len(for_model(items, FLAT)) == 5 + 10 + 1 + 1
    found = for_model(items, VOLUME)
    assert [item.within for item in found if "::" not in item.within] == [
        "volume.nii.gz",
        "one",
        "two/broken.dcm",
    ]
    of_two = [item for item in found if "::series=" in item.within]
    assert len(of_two) == 2
    assert all(item.name == str(item.path) == f"{root}/{item.within}" for item in of_two)
    (alone,) = for_model(gather([root / "one"]), VOLUME)
    assert (alone.path, alone.within) == (root / "one", "one")


def written(folder: Path, pixels: np.ndarray, patients: int, name: str) -> list[Path]:
    """An image a file, of so many patients in turn."""
    return [
        save(
            folder / f"IM{k}",
            image(one, PatientID=f"{name}{k % patients}", PatientName=PATIENT["PatientName"]),
        )
        for k, one in enumerate(pixels)
    ]


def test_no_output_holds_a_tag_of_a_patient(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Decisions, groups, report, detector, maps, and all that is printed."""
    validation = written(tmp_path / "val", ramps(80, 1), 20, "SECRETVAL")
    detector = Detector.fit(
        Diffusion.load(trained / "checkpoint_best.pth"),
        validation,
        ramps(40, 2),
        options=JOINED,
        device="cpu",
    )
    detector.save(tmp_path / "a.detector")
    assert max(detector.content.patients) == 19
    folder = tmp_path / "in"
    written(folder / "usual", ramps(12, 3), 3, "SECRETID")
    written(folder / "unusual", noise(4, 4), 1, "SECRETOOD")
    save(folder / "bad", image(ramps(1, 5)[0], Rows=900))
    save(folder / "wide", image(ramps(1, 5)[0].astype(np.uint16), BitsStored=12, HighBit=11))
    save(folder / "report", report())
    out = tmp_path / "out"
    arguments = [str(tmp_path / "a.detector"), str(folder), "--device=cpu", f"--output={out}"]
    screen.main([*arguments, f"--maps={tmp_path / 'maps'}"])
    with open(out / "decisions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["score"]) for row in rows) == 16
    assert sum("intensity_range" in row["reason"] for row in rows) == 1
    with open(out / "groups.csv", newline="") as file:
        groups = {row["group"]: row for row in csv.DictReader(file)}
    assert sorted(int(row["num_images"]) for row in groups.values()) == [4, 4, 4, 4]
    assert [row["is_ood"] for row in groups.values()].count("True") == 1
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in groups)
    printed = capfd.readouterr()
    outputs = [printed.out.encode(), printed.err.encode()]
    files = [p for part in (out, tmp_path / "maps") for p in part.rglob("*") if p.is_file()]
    outputs += [path.read_bytes() for path in (*files, tmp_path / "a.detector")]
    assert len(outputs) > 10
    for secret in (*PATIENT.values(), *UIDS, "SECRET"):
        assert not any(secret.encode() in output for output in outputs), secret
