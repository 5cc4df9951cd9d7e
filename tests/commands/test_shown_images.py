"""Pictures for the report: of the images that detection points at, as they were scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_ood.data.pictures import planes
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.history import read_work
from diffusion_ood.detection.table import read_table
from diffusion_ood.detection.table_writer import read_sidecar
from diffusion_ood.report.pictures import Pictures, load_pictures, pictures_path
from diffusion_ood.scoring.pictures import small_pictures

Command = Callable[..., Path]


def pictures(ood: Path, name: str) -> Pictures:
    fingerprint = dict(read_sidecar(table_path(ood, name))["fingerprint"])
    fingerprint.pop("rows_per_image")
    found = load_pictures(pictures_path(ood, name), fingerprint)
    assert found is not None
    return found


def test_pictures_show_the_reconstructions_that_were_scored(run_dir: Path, score: Command) -> None:
    ood = score(run_dir, "--report_images=1")
    for name, images in (("in", 2), ("B", 3)):
        found = pictures(ood, name)
        assert found.starts == (250, 500, 750, 999)
        assert images >= len(found.filenames) > 1
        scores = read_table(table_path(ood, name)).set_index(["filename", "t"])["mse"]
        for filename, row in zip(found.filenames, found.cells / 255, strict=True):
            mse = np.square(row[1:] - row[0]).mean(axis=(1, 2, 3))
            expected = [scores[filename, t] for t in found.starts]
            assert mse == pytest.approx(expected, rel=0.05, abs=2e-4)  # of 256 grey levels


def test_pictures_do_not_depend_on_batches_or_interruption_and_are_made_once(
    run_dir: Path, score: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    ood = score(run_dir, "--report_images=1")
    first = pictures(ood, "B")
    assert "B.npz: 3 images" in capsys.readouterr().out
    score(run_dir, "--report_images=1")
    assert "B.npz was done" in capsys.readouterr().out
    pictures_path(ood, "B").unlink()
    score(run_dir, "--report_images=1", "--batch_size=1", "--max_batch=1")
    np.testing.assert_allclose(
        pictures(ood, "B").cells.astype(int), first.cells.astype(int), atol=1
    )


def test_zero_report_images_make_no_pictures(run_dir: Path, score: Command) -> None:
    ood = score(run_dir, "--report_images=0")
    assert list(ood.glob("pictures_*")) == []


def test_without_validation_scores_the_run_says_why_there_are_no_pictures(
    run_dir: Path, score: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    ood = score(run_dir, "--run_val=0")
    assert "no pictures for the report" in capsys.readouterr().out
    assert list(ood.glob("pictures_*")) == []


def test_the_history_adds_up_over_interruptions(run_dir: Path, score: Command) -> None:
    for n in (2, 5, 5):
        ood = score(run_dir, f"--first_n={n}", "--run_out=0")
    fingerprint = json.loads((ood / "history.jsonl").read_text().splitlines()[0])["fingerprint"]
    work = read_work(ood, "in", fingerprint)
    assert [entry["images"] for entry in work] == [2, 3]
    assert all(entry["seconds"] > 0 for entry in work)
    assert "--first_n=5" in work[1]["command"]


def test_pictures_are_bounded_and_have_one_or_three_channels() -> None:
    assert small_pictures(torch.rand(2, 3, 1, 300, 150)).shape == (2, 3, 128, 64, 1)
    assert small_pictures(torch.rand(2, 3, 3, 20, 30)).shape == (2, 3, 20, 30, 3)
    assert small_pictures(torch.rand(1, 2, 4, 20, 30)).shape == (1, 2, 20, 30, 1)
    volume = torch.rand(1, 2, 1, 9, 6, 7)
    expected = (planes(volume[:, :, 0]) * 255).round()
    np.testing.assert_array_equal(small_pictures(volume)[..., 0], expected)
