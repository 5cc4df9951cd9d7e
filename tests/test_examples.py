"""The examples run as their first lines say, and what they print is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.splits import read_split

ROOT = Path(__file__).parents[1]


def run(script: str, *argv: str, cwd: Path) -> str:
    """What an example prints, run from a folder that holds nothing else."""
    return subprocess.run(
        [sys.executable, ROOT / "examples" / script, *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def rows(table: str) -> dict[str, list[float]]:
    lines = [line.split() for line in table.splitlines()[1:]]
    return {name: [float(value) for value in values] for name, *values in lines}


def test_all_examples_are_tested_here() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {
        "circles_dataset.py",
        "gradient_score.py",
        "heun_sampler.py",
        "mad_head.py",
        "score_norm_method.py",
    }


def test_the_gradient_score_sees_sharpness_and_no_brightness(tmp_path: Path) -> None:
    found = rows(run("gradient_score.py", cwd=tmp_path))
    (mse, gradient), (mse_blurred, gradient_blurred) = found["brighter"], found["blurred"]
    assert mse == pytest.approx(mse_blurred, abs=1e-4)
    assert gradient == 0
    assert gradient_blurred > 0.1


def test_heun_is_of_second_order_and_ddim_of_first(tmp_path: Path) -> None:
    found = rows(run("heun_sampler.py", cwd=tmp_path))
    assert found["32"][0] / found["64"][0] == pytest.approx(2, rel=0.05)
    assert found["32"][1] / found["64"][1] == pytest.approx(4, rel=0.05)


def test_the_norm_of_the_score_of_a_gaussian_is_the_expected_one(tmp_path: Path) -> None:
    """λ = 5, 3, 1 and −1 for images in [−1, 1] are these times for images in [0, 1]."""
    found = rows(run("score_norm_method.py", cwd=tmp_path))
    assert list(found) == ["8", "30", "89", "223"]
    for measured, expected in found.values():
        assert measured == pytest.approx(expected, rel=0.03)


def test_the_median_head_is_not_moved_by_odd_images(tmp_path: Path) -> None:
    found = rows(run("mad_head.py", cwd=tmp_path))
    (clean, z), (mixed, z_mixed) = found["clean"], found["mixed"]
    assert clean == pytest.approx(4, rel=0.05)
    assert z == pytest.approx(4, rel=0.05)
    assert mixed == pytest.approx(4, rel=0.1)
    assert z_mixed < 1


def test_the_circles_become_a_data_set(tmp_path: Path) -> None:
    run("circles_dataset.py", "data", cwd=tmp_path)
    splits = {p: tmp_path / f"data/data_splits/Circles_{p}.csv" for p in ("train", "val", "test")}
    assert {part: len(read_split(path)) for part, path in splits.items()} == {
        "train": 190, "val": 10, "test": 50,
    }  # fmt: skip
    image = np.asarray(Image.open(tmp_path / "data/Circles/test/00000.png"))
    assert image.shape == (32, 32)
    assert set(np.unique(image)) == {0, 255}
    assert "large" in splits["test"].read_text()
