"""P-values by hand, their distribution, and intervals of shares."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from diffusion_ood.calibration.conformal import (
    decide,
    doubts,
    held_out_scores,
    p_values,
    threshold,
)
from diffusion_ood.calibration.neighbours import NearestNeighbours


def test_p_values_by_hand_with_ties_against_an_alarm() -> None:
    found = p_values([5, 4, 3.5, 1, 0], [1, 2, 3, 4])
    assert found.tolist() == [1 / 5, 2 / 5, 2 / 5, 5 / 5, 5 / 5]
    assert p_values([2], [2, 2, 2])[0] == 1.0


def test_decisions_keep_order_and_names_and_count_equality_as_ood() -> None:
    scores = pd.Series([5.0, 0.0, 19.0], index=["b", "a", "c"])
    found = decide(scores, range(1, 20), target_fpr=0.1)
    assert found["filename"].tolist() == ["b", "a", "c"]
    assert found["p_value"].tolist() == [16 / 20, 1.0, 2 / 20]
    assert found["is_ood"].tolist() == [False, False, True]
    assert found["score"].tolist() == [5.0, 0.0, 19.0]


def test_p_values_of_exchangeable_scores_are_uniform() -> None:
    # With n = 19 a p-value is uniform on 1/20, …, 20/20, exactly.
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(20_000, 20))
    p = np.array([p_values(row[:1], row[1:])[0] for row in draws])
    counts = np.bincount(np.rint(p * 20).astype(int), minlength=21)[1:]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 43.8  # 99.9 % quantile with 19 degrees of freedom
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=5 * np.sqrt(0.05 * 0.95 / 20_000))


def test_the_realised_rate_is_the_target() -> None:
    rng = np.random.default_rng(1)
    scores = pd.Series(rng.normal(size=20_000), dtype=float)
    found = decide(scores, rng.normal(size=20_000), target_fpr=0.05)
    assert found["is_ood"].mean() == pytest.approx(0.05, abs=0.01)


def test_too_few_validation_images() -> None:
    (sentence,) = doubts(18, 0.05, np.zeros(10))
    assert "19" in sentence
    assert not decide(pd.Series([1e9]), np.zeros(18), 0.05)["is_ood"].any()
    assert decide(pd.Series([1e9]), np.zeros(19), 0.05)["is_ood"].all()


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="'val' has a score"):
        p_values([1.0], [float("nan")])
    with pytest.raises(ValueError, match="'test' has a score"):
        p_values([float("nan")], [1.0])


@pytest.mark.parametrize("target_fpr", [0.01, 0.05, 0.07, 0.29, 0.99])
@pytest.mark.parametrize("num_val", [5, 99, 100, 250])
def test_the_threshold_is_where_decisions_change(num_val: int, target_fpr: float) -> None:
    rng = np.random.default_rng(num_val)
    val = rng.normal(size=num_val)
    scores = pd.Series(np.r_[val, rng.normal(size=500) * 2])
    found = decide(scores, val, target_fpr)["is_ood"].to_numpy()
    limit = threshold(val, target_fpr)
    expected = scores > limit if limit is not None else np.zeros(len(scores), bool)
    np.testing.assert_array_equal(found, expected)


def test_few_validation_images_are_said_to_leave_the_rate_open() -> None:
    """Of the thresholds that 40 images set, 95 % have a rate in the interval that is named."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 40))
    rates = norm.sf([threshold(val, 0.05) for val in draws])
    (sentence,) = doubts(40, 0.05, np.zeros(10))
    low, high = (float(x) / 100 for x in re.findall(r"(\d+\.\d) and (\d+\.\d) %", sentence)[0])
    assert np.mean((rates >= low) & (rates <= high)) == pytest.approx(0.95, abs=0.015)
    assert list(doubts(99, 0.05, np.zeros(10))) == []


def test_an_unexpected_rate_is_rare_where_nothing_is_wrong() -> None:
    rng = np.random.default_rng(1)
    warned = 0
    for _ in range(2000):
        val, scores = rng.normal(size=99), rng.normal(size=80)
        limit = threshold(val, 0.05)
        warned += len(list(doubts(99, 0.05, scores > limit)))
    assert warned / 2000 <= 0.05
    (sentence,) = doubts(99, 0.05, np.arange(80) < 20)
    assert "20 of 80" in sentence


def test_held_out_scores_are_by_heads_that_did_not_see_the_image() -> None:
    rng = np.random.default_rng(0)
    columns = pd.MultiIndex.from_product([["a"], [10, 20]])
    features = pd.DataFrame(rng.normal(size=(800, 2)), columns=columns)
    found = held_out_scores(NearestNeighbours, features)
    expected = NearestNeighbours().fit(features[np.arange(800) % 10 != 3]).score(features)
    pd.testing.assert_series_equal(found[3::10], expected[3::10], check_exact=True)
    new = pd.DataFrame(rng.normal(size=(2000, 2)), columns=columns)
    head = NearestNeighbours().fit(features)
    held_out, seen = (
        decide(head.score(new), of_val, 0.1)["is_ood"].mean()
        for of_val in (found, head.score(features))
    )
    assert held_out == pytest.approx(0.1, abs=0.03)
    assert seen > 0.15  # each validation image is its own neighbour
