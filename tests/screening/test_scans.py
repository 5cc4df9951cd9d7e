"""Scans screened by slices: a decision a slice, a scan and a patient, and where in the scan."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from ramps import JOINED, noise, ramps

from diffusion_ood import Detector, Diffusion
from diffusion_ood.calibration.groups import group_p_values
from diffusion_ood.commands import screen
from diffusion_ood.errors import UserError

SLICES = 5  # of a scan


def write_scan(path: Path, slices: np.ndarray) -> Path:
    """A scan whose axial slices are these images, as radiologists see them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.flip(slices, (1, 2)).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def detector_file(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that was trained on images, as one of axial slices; 20 validation scans."""
    folder = tmp_path_factory.mktemp("scans")
    diffusion = Diffusion.load(trained / "checkpoint_best.pth")
    diffusion.image_options = replace(diffusion.image_options, slices="axial")
    usual = ramps(20 * SLICES, 1).reshape(20, SLICES, 8, 8)
    scans = [write_scan(folder / f"p{k // 2:02}_{k}.nii.gz", s) for k, s in enumerate(usual)]
    detector = Detector.fit(diffusion, scans, ramps(40, 2), options=JOINED, device="cpu")
    assert len(detector.content.names) == 20 * SLICES
    detector.save(folder / "scans.detector")
    return folder / "scans.detector"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four scans of two patients; the last scan has two slices of noise."""
    scans = ramps(4 * SLICES, 3).reshape(4, SLICES, 8, 8)
    scans[3, 2:4] = noise(2, 4)
    for k, slices in enumerate(scans):
        write_scan(tmp_path / "in" / f"p9{k // 2}_{k}.nii.gz", slices)
    return tmp_path / "in"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def call(detector: Path, *argv: object) -> None:
    screen.main([str(detector), *map(str, argv), "--device=cpu"])


def test_slices_scans_and_patients(detector_file: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(detector_file, folder, f"--output={out}", r"--group_by=(p\d\d)_", "--report_images=3")
    found = rows(out / "decisions.csv")
    scans = sorted(map(str, folder.iterdir()))
    assert [row["file"] for row in found] == [f"{s}::axial={k}" for s in scans for k in range(5)]
    assert [k for k, row in enumerate(found) if row["is_ood"] == "True" and k >= 15] == [17, 18]

    detector = Detector.load(detector_file, "cpu")
    scores = [float(row["score"]) for row in found]
    np.testing.assert_allclose(detector.score(scans).score, scores, atol=1e-6)
    groups = rows(out / "groups.csv")
    assert [row["group"] for row in groups] == [*scans, "p90", "p91"]
    assert [row["level"] for row in groups] == ["scan"] * 4 + ["group"] * 2
    assert [row["num_images"] for row in groups] == ["5"] * 4 + ["10"] * 2
    assert [row["is_ood"] for row in groups[:4]] == ["False"] * 3 + ["True"]
    assert float(groups[5]["p_value"]) == 1 / 11
    val = detector.content.joined.val_scores
    expected = group_p_values(
        scores,
        [s for s in scans for _ in range(5)],
        val,
        [n.split("::")[0] for n in detector.content.names],
    )
    np.testing.assert_allclose([float(r["p_value"]) for r in groups[:4]], expected["p_value"])
    assert float(groups[3]["p_value"]) == 1 / 21

    report = (out / "report.html").read_text()
    assert report.count('class="scan"') == 3
    assert report.count("data:image/png;base64,") == 2 * (3 + 3)
    first = report.split('class="scan"')[1]
    assert f"{scans[3]}::axial=" in first


def test_the_default_is_a_decision_a_scan(
    detector_file: Path, folder: Path, tmp_path: Path
) -> None:
    other = write_scan(tmp_path / "more" / "p90_0.nii.gz", ramps(SLICES, 8))
    argv = [folder, other, f"--output={tmp_path / 'out'}", "--report_images=0"]
    call(detector_file, *argv)
    groups = rows(tmp_path / "out" / "groups.csv")
    assert [row["level"] for row in groups] == ["scan"] * 5
    assert 'class="scan"' not in (tmp_path / "out" / "report.html").read_text()


def test_a_map_a_slice(detector_file: Path, folder: Path, tmp_path: Path) -> None:
    call(detector_file, folder / "p91_3.nii.gz", f"--output={tmp_path / 'out'}",
         f"--maps={tmp_path / 'maps'}", "--report_images=0")  # fmt: skip
    maps = sorted((tmp_path / "maps").glob("*.npy"))
    assert [path.name for path in maps] == [f"p91_3.nii.gz_axial={k}.npy" for k in range(5)]
    sums = [np.load(path).sum() for path in maps]
    assert set(np.argsort(sums)[-2:]) == {2, 3}


def test_a_volume_of_another_size_is_a_reason_for_each_slice(
    detector_file: Path, tmp_path: Path
) -> None:
    write_scan(tmp_path / "in" / "a.nii.gz", np.zeros((3, 9, 8), np.uint8))
    call(detector_file, tmp_path / "in", f"--output={tmp_path / 'out'}")
    found = rows(tmp_path / "out" / "decisions.csv")
    assert len(found) == 3
    assert all("9 x 8" in row["reason"] for row in found)


def test_scans_need_names(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diffusion = Diffusion.load(trained / "checkpoint_best.pth")
    diffusion.image_options = replace(diffusion.image_options, slices="axial")
    nameless = tmp_path / "nameless.detector"
    Detector.fit(diffusion, ramps(20, 5), options=JOINED, device="cpu").save(nameless)
    call(nameless, folder, f"--output={tmp_path / 'out'}", "--report_images=0")
    assert not (tmp_path / "out" / "groups.csv").exists()
    assert "--keep_names" in capsys.readouterr().out
    with pytest.raises(UserError, match="group_by"):
        call(nameless, folder, f"--output={tmp_path / 'out'}", r"--group_by=(p\d\d)")


def test_slices_in_files_of_their_own_are_no_validation_scans(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    diffusion = Diffusion.load(trained / "checkpoint_best.pth")
    diffusion.image_options = replace(diffusion.image_options, slices="axial")
    files = [tmp_path / f"{k}.npy" for k in range(20)]
    for file, values in zip(files, ramps(20, 5), strict=True):
        np.save(file, values)
    detector = Detector.fit(diffusion, files, options=JOINED, device="cpu")
    assert len(detector.content.names) == 20
    detector.save(tmp_path / "single.detector")
    call(tmp_path / "single.detector", folder, f"--output={tmp_path / 'out'}", "--report_images=0")
    assert len(rows(tmp_path / "out" / "decisions.csv")) == 4 * SLICES
    assert not (tmp_path / "out" / "groups.csv").exists()
