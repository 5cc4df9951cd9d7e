"""Weights of start points against reliabilities that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.detection.calibration import fit
from diffusion_ood.detection.reliability import reliabilities


def long_form(scores: dict[int, np.ndarray]) -> pd.DataFrame:
    """Rows (filename, t, mse), the images named by their number, t falling."""
    rows = [(f"{i}", t, x) for t in sorted(scores, reverse=True) for i, x in enumerate(scores[t])]
    return pd.DataFrame(rows, columns=["filename", "t", "mse"])


def levels(scores: dict[int, np.ndarray]) -> pd.DataFrame:
    return long_form(scores).set_index(["filename", "t"])


def test_a_weight_is_the_mean_correlation_with_the_neighbours() -> None:
    rng = np.random.default_rng(0)
    scores = {t: rng.normal(size=50) for t in (10, 20, 30)}
    scores[20] += scores[10] + scores[30]
    low, high = (np.corrcoef(scores[20], scores[t])[0, 1] for t in (10, 30))
    expected = np.array([low, (low + high) / 2, high])
    found = reliabilities(levels(scores))["mse"]
    assert list(found.index) == [10, 20, 30]
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-12)


def test_weights_are_the_parts_of_the_variance_that_are_the_images() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=20_000)
    parts = (0.9, 0.9, 0.5, 0.5)
    scores = {
        t: np.sqrt(part) * image + np.sqrt(1 - part) * rng.normal(size=image.size)
        for t, part in enumerate(parts)
    }
    found = reliabilities(levels(scores))["mse"].to_numpy()
    # neighbours correlate by the geometric mean of their parts
    expected = np.array([0.9, (0.9 + 0.45**0.5) / 2, (0.5 + 0.45**0.5) / 2, 0.5])
    np.testing.assert_allclose(found, expected / expected.mean(), atol=0.02)


@pytest.mark.parametrize(
    "scores",
    [
        {10: np.array([1.0, 2.0, 4.0])},
        {10: np.array([1.0, 2.0, 4.0]), 20: np.array([4.0, 2.0, 1.0])},
        {10: np.array([1.0, 2.0, 4.0]), 20: np.array([3.0, 3.0, 3.0])},
    ],
    ids=["one start point", "opposite ones", "one without a spread"],
)
def test_where_nothing_is_known_all_count_the_same(scores: dict[int, np.ndarray]) -> None:
    assert reliabilities(levels(scores))["mse"].tolist() == [1.0] * len(scores)


def test_z_scores_are_averaged_by_these_weights() -> None:
    rng = np.random.default_rng(2)
    scores = {t: rng.normal(size=30) for t in (10, 20, 30)}
    scores[20] += scores[10]
    val = long_form(scores)
    calibration = fit(val, ["mse"], weighted=True)
    weights = calibration.weights["mse"]
    assert weights.max() > 1.2
    z = sum(
        weights[t] * (x - scores[t].mean()) / scores[t].std(ddof=1)
        for t, x in ((10, 1.0), (20, 5.0), (30, -2.0))
    )
    table = long_form({10: np.array([1.0]), 20: np.array([5.0]), 30: np.array([-2.0])})
    assert calibration.image_scores(table)["mse"].item() == pytest.approx(z / 3, rel=1e-12)
    assert (fit(val, ["mse"]).weights == 1).all(axis=None)
