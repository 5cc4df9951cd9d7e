"""A benchmark of image lists: in, near and far OOD, and a set under covariate shift."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from diffusion_ood.commands import ood_detection, reconstruct
from diffusion_ood.errors import UserError

Command = Callable[..., Path]


def openmibood(folder: Path, splits: Path) -> Path:
    """Lists and images as OpenMIBOOD has them; returns the folder of lists."""
    lists = folder / "benchmark_imglist" / "midog"
    lists.mkdir(parents=True)
    for name, own, within, label in (
        ("valid_midog", "A_val", "id/1a", 0),
        ("test_midog", "A_test", "id/1a_test", 1),
        ("test_midog_1b", "A_more", "csid/1b", 2),
        ("test_midog_ccagt", "B_test", "far/ccagt", -1),
    ):
        (folder / "midog" / within).mkdir(parents=True)
        images = sorted((splits / own).iterdir())
        for image in images:
            os.link(image, folder / "midog" / within / image.name)
        lines = "".join(f"{within}/{image.name} {label}\n" for image in images)
        (lists / f"{name}.txt").write_text(lines)
    return lists


def test_a_benchmark_of_lists_from_images_to_false_alarms_under_shift(
    score: Command, run_dir: Path, splits: Path, tmp_path: Path
) -> None:
    lists = openmibood(tmp_path / "benchmark", splits)
    ood = score(
        run_dir,
        f"--validation_ids={lists / 'valid_midog.txt'}",
        f"--in_ids={lists / 'test_midog.txt'}",
        f"--out_ids={lists / 'test_midog_ccagt.txt'}",
        f"--shifted_ids={lists / 'test_midog_1b.txt'}",
    )
    table = pd.read_csv(ood / "results_midog_1b.csv")
    assert set(table["type"]) == {"shifted"}
    assert table["filename"].iloc[0].startswith("csid/1b/")
    arguments = [f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}"]
    ood_detection.main([*arguments, "--n_bootstrap=0"])
    found = json.loads((ood / "metrics.json").read_text())
    alarms = found["shifted_false_alarms"]["midog_1b"]
    assert alarms["low"] == pytest.approx(alarms["value"], abs=1e-9)  # of few validation images
    assert alarms["value"] < alarms["high"]
    assert set(found["detection_rates"]) == {"midog_ccagt"}
    assert set(found["targets"]["mse"]) == {"midog_ccagt"}
    assert "midog_1b" in (ood / "report.html").read_text()


def test_a_shifted_set_needs_a_name_and_images_of_its_own(
    run_dir: Path, splits: Path, score_flags: Callable[[Path], list[str]]
) -> None:
    flags = score_flags(run_dir)
    with pytest.raises(UserError, match=r"B_test\.csv.* B"):
        reconstruct.main([*flags, f"--shifted_ids={splits / 'B_test.csv'}"])
    with pytest.raises(UserError, match=r"A_test\.csv"):
        reconstruct.main([*flags, "--run_val=0", f"--shifted_ids={splits / 'A_test.csv'}"])
