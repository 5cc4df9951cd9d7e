"""A model of slices from scans to decisions: trained, scored, detected, fitted and asked."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from ramps import noise, ramps

from diffusion_ood import Diffusion
from diffusion_ood.calibration.groups import group_scores
from diffusion_ood.commands import fit, ood_detection, reconstruct, screen
from diffusion_ood.data.splits import write_split
from diffusion_ood.errors import UserError
from diffusion_ood.methods.scores import chosen

SLICES = 4
SCANS = {"A_train": 3, "A_val": 6, "A_test": 4, "B_test": 2}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Scans of four axial slices: of ramps for A, of noise for B."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, (name, count) in enumerate(SCANS.items()):
        make = ramps if name.startswith("A") else noise
        images = make(count * SLICES, seed).reshape(count, SLICES, 8, 8)
        names = [f"{name}_p{k // 2}_{k}.nii.gz" for k in range(count)]
        for path, slices in zip(names, images, strict=True):
            values = np.flip(slices, (1, 2)).transpose(2, 1, 0)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / path)
        write_split(folder / f"{name}.csv", names)
    return folder


def test_slices_of_what_has_none_are_refused(train: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"slices.*A_train\.csv"):
        train(tmp_path / "runs" / "F", "--slices=axial")


def test_from_scans_to_decisions(
    train: Callable[..., Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "find_alexnet_features", lambda path=None: None)
    run_dir = train(tmp_path / "runs" / "S", "--slices=axial", data=data)
    diffusion = Diffusion.load(run_dir / "checkpoint_best.pth")
    assert (diffusion.image_options.slices, diffusion.image_options.every) == ("axial", 1)
    run = [f"--output_dir={run_dir.parent}", "--model_name=S"]
    score = [
        *run, f"--validation_ids={data / 'A_val.csv'}", f"--in_ids={data / 'A_test.csv'}",
        f"--out_ids={data / 'B_test.csv'}", "--num_inference_steps=3", "--device=cpu",
        "--compile=off", "--num_workers=0",
    ]  # fmt: skip
    reconstruct.main([*score, "--first_n_val=22"])
    table = pd.read_csv(run_dir / "ood" / "results_val.csv")
    assert table["filename"].nunique() == 22
    assert table["filename"].iloc[0] == "A_val_p0_0.nii.gz::axial=0"
    reconstruct.main(score)
    with pytest.raises(UserError, match="slices"):
        reconstruct.main([*score, "--slices=coronal"])

    ood_detection.main([*run, r"--group_by=_(p\d)_", "--target_fpr=0.3", "--n_bootstrap=20"])
    found = json.loads((run_dir / "ood" / "metrics.json").read_text())
    assert found["num_images"] == {"val": 24, "in": 16, "B": 8}
    assert found["groups"]["scan"]["num_groups"] == {"in": 4, "B": 2}
    assert found["groups"]["group"]["num_groups"] == {"in": 2, "B": 1}
    groups = pd.read_csv(run_dir / "ood" / "groups_in.csv")
    assert groups["level"].tolist() == ["scan"] * 4 + ["group"] * 2
    decided = pd.read_csv(run_dir / "ood" / "decisions_in.csv")
    scans = decided["filename"].str.split("::").str[0]
    expected = group_scores(decided["score"], list(scans))
    np.testing.assert_allclose(groups["score"][:4], expected)
    report = (run_dir / "ood" / "report.html").read_text()
    assert 'id="groups-table"' in report

    detector = tmp_path / "s.detector"
    fit.main([*run, f"--validation_ids={data / 'A_val.csv'}", f"--detector={detector}",
              "--methods=denoising", "--device=cpu"])  # fmt: skip
    out = tmp_path / "out"
    screen.main([str(detector), str(data / "B_test.csv"), f"--output={out}", "--device=cpu"])
    with open(out / "groups.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["num_images"] for row in rows] == ["4", "4"]
    assert {row["level"] for row in rows} == {"scan"}
