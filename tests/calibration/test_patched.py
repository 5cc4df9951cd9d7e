"""Weights of levels and columns against what they must be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.calibration.patched import PatchWeights
from diffusion_ood.calibration.zscore import ZScore

LEVELS = [10, 20, 30]


def frame(values: np.ndarray, columns: list[str] | None = None) -> pd.DataFrame:
    """Features of the column mse, or of several with two levels each."""
    names = pd.MultiIndex.from_product([columns, LEVELS[:2]] if columns else [["mse"], LEVELS])
    return pd.DataFrame(values, columns=names)


def correlated(rng: np.random.Generator, n: int) -> np.ndarray:
    """Normal values `(n, 3)` that correlate by 0.3."""
    return rng.multivariate_normal(np.zeros(3), np.eye(3) * 0.7 + 0.3, size=n)


def weights(val: pd.DataFrame, patched: pd.DataFrame) -> np.ndarray:
    return PatchWeights(patched).fit(val).state_dict()["weights"]


def test_weights_are_fishers_discriminant_where_it_is_positive() -> None:
    rng = np.random.default_rng(4)
    val, patched = correlated(rng, 400), correlated(rng, 400) + np.array([1.0, 2.0, 1.5])
    z = (val - val.mean(0)) / val.std(0, ddof=1)
    raised = ((patched - val.mean(0)) / val.std(0, ddof=1)).mean(0)
    fisher = np.linalg.solve(np.cov(z.T) + np.eye(3), raised)
    assert (fisher > 0).all()
    np.testing.assert_allclose(
        weights(frame(val), frame(patched)), fisher / fisher.sum(), rtol=1e-9
    )


def test_a_level_that_patching_makes_look_normal_has_no_weight() -> None:
    rng = np.random.default_rng(5)
    val, patched = correlated(rng, 200), correlated(rng, 200) + np.array([2.0, -2.0, 1.0])
    found = weights(frame(val), frame(patched))
    assert found[1] == 0
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0


def test_columns_are_weighed_against_each_other_and_a_useless_one_keeps_equal_weights() -> None:
    rng = np.random.default_rng(6)
    columns = ["mse", "perceptual_difference"]
    val = frame(rng.normal(size=(300, 4)), columns)
    patched = frame(rng.normal([1, 1, -1, -1], size=(300, 4)), columns)
    both = weights(val, patched)
    assert both[2:].tolist() == [0, 0]
    assert both.sum() == pytest.approx(2)
    assert weights(val[columns[1:]], patched[columns[1:]]).tolist() == [0.5, 0.5]


def test_scores_are_z_scores_summed_by_these_weights() -> None:
    rng = np.random.default_rng(2)
    val = rng.normal(size=(30, 3))
    head = PatchWeights(frame(val + np.arange(1, 4))).fit(frame(val))
    test = rng.normal(size=(5, 3))
    z = (test - val.mean(0)) / val.std(0, ddof=1)
    expected = z @ head.state_dict()["weights"]
    np.testing.assert_allclose(head.score(frame(test)), expected, rtol=1e-12)
    restored = PatchWeights()
    restored.load_state_dict(head.state_dict())
    pd.testing.assert_series_equal(restored.score(frame(test)), head.score(frame(test)))


def test_patches_that_raise_nothing_leave_the_mean() -> None:
    val = frame(correlated(np.random.default_rng(7), 50))
    found = PatchWeights(val - 1).fit(val).score(val)
    np.testing.assert_allclose(found, ZScore().fit(val).score(val), rtol=1e-9, atol=1e-12)
