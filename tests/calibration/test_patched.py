"""Weights of scores and start points against what they must be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.detection import weighting
from diffusion_ood.detection.calibration import fit


def wide(scores: dict[tuple[str, int], np.ndarray]) -> pd.DataFrame:
    """Z-scores, a column each (score, t)."""
    return pd.DataFrame(scores).rename_axis("filename")


def of_mse(scores: dict[int, np.ndarray]) -> pd.DataFrame:
    return wide({("mse", t): values for t, values in scores.items()})


def long_form(scores: dict[int, np.ndarray]) -> pd.DataFrame:
    """Rows (filename, t, mse), the images named by their number, t falling."""
    rows = [(f"{i}", t, x) for t in sorted(scores, reverse=True) for i, x in enumerate(scores[t])]
    return pd.DataFrame(rows, columns=["filename", "t", "mse"])


def test_equal_weights_are_the_mean_over_levels_and_both_is_the_sum() -> None:
    cells = pd.MultiIndex.from_product([["mse", "perceptual_difference", "other"], [10, 20]])
    found = weighting.equal(cells)
    assert list(found) == ["mse", "perceptual_difference", "other", "both"]
    expected = [[0.5, 0, 0, 0.5]] * 2 + [[0, 0.5, 0, 0.5]] * 2 + [[0, 0, 0.5, 0]] * 2
    np.testing.assert_array_equal(found.to_numpy(), expected)


def correlated(rng: np.random.Generator, n: int) -> np.ndarray:
    """Normal z-scores `(n, 3)` that correlate by 0.3."""
    return rng.multivariate_normal(np.zeros(3), np.eye(3) * 0.7 + 0.3, size=n)


def test_separating_weights_are_fishers_discriminant_where_it_is_positive() -> None:
    rng = np.random.default_rng(4)
    val, patched = correlated(rng, 400), correlated(rng, 400) + np.array([1.0, 2.0, 1.5])
    columns = [10, 20, 30]
    found = weighting.separation(
        *(of_mse(dict(zip(columns, x.T, strict=True))) for x in (val, patched))
    )["mse"]
    fisher = np.linalg.solve(np.cov(val.T) + np.eye(3), patched.mean(0) - val.mean(0))
    assert (fisher > 0).all()
    np.testing.assert_allclose(found, fisher / fisher.sum(), rtol=1e-9)


def test_a_level_that_patching_makes_look_normal_has_no_weight() -> None:
    rng = np.random.default_rng(5)
    val, patched = correlated(rng, 200), correlated(rng, 200) + np.array([2.0, -2.0, 1.0])
    found = weighting.separation(
        *(of_mse(dict(zip((10, 20, 30), x.T, strict=True))) for x in (val, patched))
    )["mse"]
    assert found["mse", 20] == 0
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0


def test_both_weighs_the_scores_against_each_other_and_a_useless_one_keeps_a_target() -> None:
    rng = np.random.default_rng(6)
    names = [("mse", 10), ("mse", 20), ("perceptual_difference", 10), ("perceptual_difference", 20)]
    val = wide({name: rng.normal(size=300) for name in names})
    patched = wide({name: rng.normal(2.0 * (name[0] == "mse") - 1, size=300) for name in names})
    found = weighting.separation(val, patched)
    assert found["both"]["perceptual_difference"].tolist() == [0, 0]
    assert found["both"].sum() == pytest.approx(2)
    assert found["perceptual_difference"].tolist() == [0, 0, 0.5, 0.5]


def test_z_scores_are_summed_by_these_weights() -> None:
    rng = np.random.default_rng(2)
    scores = {t: rng.normal(size=30) for t in (10, 20, 30)}
    scores[20] += scores[10]
    val = long_form(scores)
    patched = long_form({t: x + 0.1 * t for t, x in scores.items()})
    calibration = fit(val, ["mse"]).separating(val, patched)
    weights = calibration.weights["mse"]
    assert weights.max() > 0.4
    z = sum(
        weights["mse", t] * (x - scores[t].mean()) / scores[t].std(ddof=1)
        for t, x in ((10, 1.0), (20, 5.0), (30, -2.0))
    )
    table = long_form({10: np.array([1.0]), 20: np.array([5.0]), 30: np.array([-2.0])})
    assert calibration.image_scores(table)["mse"].item() == pytest.approx(z, rel=1e-12)


def test_images_keep_the_order_of_the_table() -> None:
    val = long_form({t: np.arange(12.0) ** 2 + t for t in (10, 20)})
    found = fit(val, ["mse"]).image_scores(val)
    assert list(found.index) == [f"{i}" for i in range(12)]  # "10" not before "2"
