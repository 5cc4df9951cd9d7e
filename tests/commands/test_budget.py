"""`--budget`: how many network calls an image costs, and from where they start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import Tensor

from diffusion_ood.commands import reconstruct
from diffusion_ood.commands.ood_detection import main as detect
from diffusion_ood.errors import UserError
from diffusion_ood.methods import cost
from diffusion_ood.methods.scores import chosen
from diffusion_ood.runtime.compiling import MaybeCompiled

PATCHED = ("--level_weights=patched", "--n_bootstrap=0")

Score = Callable[..., Path]


@pytest.fixture
def score(
    score_flags: Callable[[Path], list[str]], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Score:
    """`score(*flags)` scores three in-distribution images by MSE and returns the ood folder."""
    flags = [flag for flag in score_flags(run_dir) if "num_inference_steps" not in flag]
    monkeypatch.setattr(chosen, "find_alexnet_features", lambda path=None: None)

    def run(*more: str) -> Path:
        reconstruct.main([*flags, "--run_val=0", "--run_out=0", "--first_n=3", *more])
        return run_dir / "ood"

    return run


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every network call, as they are made, but for those that are timed before."""
    monkeypatch.setattr(cost, "seconds_a_call", lambda *_: 0.0)
    sizes = []
    ask = MaybeCompiled.__call__

    def counted(self: MaybeCompiled, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        sizes.append(len(x))
        return ask(self, x, t, **labels)

    monkeypatch.setattr(MaybeCompiled, "__call__", counted)
    return sizes


def read(ood: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    return pd.read_csv(ood / "results_in.csv"), json.loads((ood / "results_in.json").read_text())


@pytest.mark.parametrize(
    ("flags", "starts", "spent"),
    [
        (["--budget=5"], [47, 142, 237, 332, 427], 5),
        (["--budget=5", "--repeats=2"], [118, 356], 4),
        (["--budget=9", "--budget_steps=4"], [118, 356], 8),
        (["--budget=9", "--budget_steps=4", "--sampler=pndm2"], [118, 356], 10),
    ],
)
def test_a_budget_is_all_the_calls_of_an_image(
    flags: list[str], starts: list[int], spent: int, score: Score, rows: list[int]
) -> None:
    found, companion = read(score(*flags))
    assert sorted(found["t"].unique()) == starts
    assert sum(rows) == 3 * spent
    assert companion["facts"]["calls_per_image"] == spent


def test_steps_from_a_level_end_elsewhere_than_the_straight_prediction(
    score: Score, run_dir: Path
) -> None:
    straight, _ = read(score("--budget=2"))
    shutil.rmtree(run_dir / "ood")
    stepwise, _ = read(score("--budget=8", "--budget_steps=4"))
    assert list(straight["t"]) == list(stepwise["t"])
    assert (stepwise["mse"] / straight["mse"] - 1).abs().min() > 1e-3


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--budget=0"], "`budget`.* 0"),
        (["--budget=1001"], "`budget`.* 1001 .* 475"),
        (["--budget=3", "--budget_steps=4"], "`budget`.* 0 "),
        (["--budget_steps=4"], "`budget_steps`.*`budget`"),
        (["--budget=3", "--sampler=ddim"], "`sampler`.*`budget`"),
        (["--budget=3", "--num_inference_steps=10"], "`num_inference_steps`.*`budget`"),
        (["--budget=3", "--inference_skip_factor=2"], "`inference_skip_factor`.*`budget`"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    flags: list[str], named: str, score: Score, run_dir: Path
) -> None:
    with pytest.raises(UserError, match=named):
        score(*flags)
    assert not (run_dir / "ood").exists()


def test_patched_validation_images_are_a_table_of_their_own(
    score_flags: Callable[[Path], list[str]], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "find_alexnet_features", lambda path=None: None)
    flags = [flag for flag in score_flags(run_dir) if "num_inference_steps" not in flag]
    reconstruct.main([*flags, "--budget=3", "--run_patched", "--first_n_val=6", "--first_n=6"])
    val, patched = (
        pd.read_csv(run_dir / "ood" / f"results_{name}.csv") for name in ("val", "val_patched")
    )
    keys = ["filename", "type", "t"]
    pd.testing.assert_frame_equal(patched[keys], val[keys])
    assert (patched["mse"] != val["mse"]).all()
    detect([f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}", *PATCHED])
    metrics = json.loads((run_dir / "ood" / "metrics.json").read_text())
    assert set(metrics["num_images"]) == {"val", "in", "B"}


def test_patches_need_the_validation_images(run_dir: Path, score: Score) -> None:
    with pytest.raises(UserError, match=r"`validation_ids`.*`run_patched`"):
        reconstruct.main(
            [
                *(f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}"),
                *("--run_patched", "--run_val=0", "--run_in=0", "--run_out=0"),
            ]
        )
