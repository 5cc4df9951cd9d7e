"""The three commands in a row: from images to metrics that scikit-learn agrees with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from diffusion_ood.commands import ood_detection

Command = Callable[..., Path]


@pytest.fixture
def ood(run_dir: Path, score: Command, splits: Path) -> Path:
    """The ood folder after training, scoring two OOD sets and detection."""
    score(run_dir, f"--out_ids={splits}/B_test.csv,{splits}/A_vflip_test.csv")
    detect(run_dir / "ood")
    return run_dir / "ood"


def detect(ood: Path, *flags: str) -> dict[str, Any]:
    run_dir = ood.parent
    ood_detection.main(
        [
            f"--output_dir={run_dir.parent}",
            f"--model_name={run_dir.name}",
            "--n_bootstrap=50",
            *flags,
        ]
    )
    return json.loads((ood / "metrics.json").read_text())


def test_the_metrics_are_those_of_the_decisions_scores(ood: Path) -> None:
    metrics = json.loads((ood / "metrics.json").read_text())
    assert metrics["num_images"] == {"val": 6, "in": 6, "A_vflip": 6, "B": 5}
    decided = {name: pd.read_csv(ood / f"decisions_{name}.csv") for name in ("in", "B", "A_vflip")}
    for name in ("B", "A_vflip"):
        scores = np.concatenate([decided["in"]["score"], decided[name]["score"]])
        is_ood = np.repeat([0, 1], [6, len(decided[name])])
        found = metrics["targets"][metrics["headline"]][name]
        assert found["auroc"]["value"] == pytest.approx(roc_auc_score(is_ood, scores))
        expected = average_precision_score(is_ood, scores)
        assert found["aupr_out"]["value"] == pytest.approx(expected)
        for metric in found.values():
            assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
        share = metrics["detection_rates"][name]["value"]
        assert share == pytest.approx(decided[name]["is_ood"].mean())


def test_noise_is_found_to_be_out_of_a_distribution_of_ramps(ood: Path) -> None:
    assert detect(ood, "--max_t=250")["targets"]["mse"]["B"]["auroc"]["value"] == 1.0


def test_the_z_scores_are_those_of_the_score_tables(ood: Path) -> None:
    """Mean over t of (mse − validation mean at t) / validation deviation at t."""
    val, test = (pd.read_csv(ood / f"results_{name}.csv") for name in ("val", "in"))
    levels = val.groupby("t")["mse"]
    z = (test["mse"] - test["t"].map(levels.mean())) / test["t"].map(levels.std())
    expected = z.groupby(test["filename"]).mean()
    decided = pd.read_csv(ood / "decisions_in.csv").set_index("filename")
    np.testing.assert_allclose(decided["score"][expected.index], expected, rtol=1e-5, atol=1e-6)
