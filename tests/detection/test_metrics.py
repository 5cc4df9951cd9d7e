"""Metrics against hand-worked cases and scikit-learn; intervals against their definition."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from diffusion_ood.detection import metrics
from diffusion_ood.detection.metrics import METRICS, Interval, evaluate, weighted_metrics


def values(s_in: object, s_out: object) -> dict[str, float]:
    return {name: found.value for name, found in evaluate(s_in, s_out, n_bootstrap=0).items()}


def by_scikit_learn(
    s_in: NDArray, s_out: NDArray, w_in: NDArray, w_out: NDArray
) -> dict[str, float]:
    y = np.r_[np.zeros(len(s_in)), np.ones(len(s_out))]
    s, w = np.r_[s_in, s_out], np.r_[w_in, w_out]
    fpr, tpr, _ = roc_curve(y, s, sample_weight=w, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(y, s, sample_weight=w),
        "aupr_out": average_precision_score(y, s, sample_weight=w),
        "aupr_in": average_precision_score(1 - y, -s, sample_weight=w),
        "fpr95": fpr[tpr >= 0.95].min(),
    }


def test_a_higher_score_is_more_out_of_distribution() -> None:
    perfect = values([0, 1, 2], [3, 4])
    assert perfect == {"auroc": 1.0, "aupr_out": 1.0, "aupr_in": 1.0, "fpr95": 0.0}
    assert values([3, 4], [0, 1, 2])["auroc"] == 0.0
    assert values([3, 4], [0, 1, 2])["fpr95"] == 1.0


def test_by_hand() -> None:
    # From the highest: 4 out, 3 in, 2 out and in (a tie), 1 in.
    found = values([3, 2, 1], [4, 2])
    assert found["auroc"] == pytest.approx((3 + 1.5) / 6, abs=1e-15)
    assert found["aupr_out"] == pytest.approx((1 / 1 + 2 / 4) / 2, abs=1e-15)
    # From the lowest: 1 in, 2 in and out, 3 in, 4 out.
    assert found["aupr_in"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3, abs=1e-15)
    assert found["fpr95"] == pytest.approx(2 / 3, abs=1e-15)


def test_all_scores_equal() -> None:
    found = values([7, 7, 7], [7])
    assert found == {"auroc": 0.5, "aupr_out": 0.25, "aupr_in": 0.75, "fpr95": 1.0}


def test_exactly_95_percent_is_enough() -> None:
    assert values([0.5, -9], [0, *range(1, 20)])["fpr95"] == 0.0
    assert values([0.5, -9], [0, -1, *range(2, 20)])["fpr95"] == 0.5


@pytest.mark.parametrize("seed", range(40))
def test_equal_to_scikit_learn_with_ties_and_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 60, size=2)
    spread = rng.choice([2, 8, 1000])
    s_in = rng.integers(0, spread, n).astype(float)
    s_out = rng.integers(0, spread, m) + rng.choice([0.0, spread / 4])
    ones = np.ones(n), np.ones(m)
    assert values(s_in, s_out) == pytest.approx(by_scikit_learn(s_in, s_out, *ones), abs=1e-12)
    counts = rng.multinomial(n, np.full(n, 1 / n), 3), rng.multinomial(m, np.full(m, 1 / m), 3)
    found = weighted_metrics(s_in, s_out, *(w.astype(float) for w in counts))
    for i in range(3):
        expected = by_scikit_learn(s_in, s_out, counts[0][i], counts[1][i])
        assert {name: found[name][i] for name in METRICS} == pytest.approx(expected, abs=1e-12)


def test_a_resample_by_counts_is_a_resample_by_repetition() -> None:
    rng = np.random.default_rng(1)
    s_in, s_out = rng.normal(size=30), rng.normal(1, size=20)
    w_in, w_out = rng.multinomial(30, np.full(30, 1 / 30)), rng.multinomial(20, np.full(20, 0.05))
    found = weighted_metrics(s_in, s_out, w_in[None].astype(float), w_out[None].astype(float))
    repeated = values(np.repeat(s_in, w_in), np.repeat(s_out, w_out))
    assert {name: found[name][0] for name in METRICS} == pytest.approx(repeated, abs=1e-14)


def test_the_interval_has_the_width_that_theory_gives() -> None:
    rng = np.random.default_rng(2)
    n = 400
    s_in, s_out = rng.normal(size=n), rng.normal(1, size=n)
    found = evaluate(s_in, s_out, n_bootstrap=2000)["auroc"]
    # DeLong's variance: of the placements of each set among the other.
    above = (s_out[:, None] > s_in).mean(axis=1), (s_out[:, None] > s_in).mean(axis=0)
    standard_error = np.sqrt(sum(np.var(v, ddof=1) / n for v in above))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(standard_error, rel=0.08)
    assert found.low < found.value < found.high


def test_the_seed_decides_and_the_chunks_hardly_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    s_in, s_out = rng.normal(size=50), rng.normal(1, size=40)
    first = evaluate(s_in, s_out, n_bootstrap=500, seed=1)
    assert first == evaluate(s_in, s_out, n_bootstrap=500, seed=1)
    other = evaluate(s_in, s_out, n_bootstrap=500, seed=2)
    assert first["auroc"].value == other["auroc"].value
    assert first["auroc"].low != other["auroc"].low
    monkeypatch.setattr(metrics, "_CHUNK_ELEMENTS", 90 * 7)
    chunked = evaluate(s_in, s_out, n_bootstrap=500, seed=1)
    assert chunked["auroc"].low == pytest.approx(first["auroc"].low, abs=0.02)


def test_without_a_bootstrap_there_are_no_bounds() -> None:
    assert evaluate([0, 1], [2, 3], n_bootstrap=0)["auroc"] == Interval(1.0, None, None)


def test_the_mean_over_sets() -> None:
    sets = [evaluate([0, 1], [2, 3], n_bootstrap=0), evaluate([2, 3], [0, 1], n_bootstrap=0)]
    assert metrics.mean(sets)["auroc"] == Interval(0.5)
    assert metrics.mean(sets)["fpr95"] == Interval(0.5)


@pytest.mark.parametrize(
    ("s_in", "s_out", "message"),
    [
        ([], [1.0], "'in' has no scores"),
        ([1.0], [], "'out' has no scores"),
        ([1.0, float("nan")], [1.0], "'in' has a score"),
        ([1.0], [float("inf")], "'out' has a score"),
    ],
)
def test_one_set_alone_and_nan_are_refused(
    s_in: list[float], s_out: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(s_in, s_out)


def test_a_thousand_resamples_of_two_thousand_images_are_quick() -> None:
    rng = np.random.default_rng(4)
    s_in, s_out = rng.normal(size=1000), rng.normal(1, size=1000)
    start = time.process_time()
    evaluate(s_in, s_out, n_bootstrap=1000)
    assert time.process_time() - start < 2  # about 0.2 s; the rest is for a busy machine


def test_many_images_are_resampled_in_groups_with_the_same_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    s_in, s_out = rng.normal(size=12_000), rng.normal(1, 1.5, size=9_000)
    grouped = metrics.evaluate(s_in, s_out, n_bootstrap=200)
    monkeypatch.setattr(metrics, "_MAX_UNGROUPED", 10**9)
    single = metrics.evaluate(s_in, s_out, n_bootstrap=200)
    for name in metrics.METRICS:
        assert grouped[name].value == single[name].value
        width = single[name].high - single[name].low
        assert grouped[name].low == pytest.approx(single[name].low, abs=width / 5)
        assert grouped[name].high == pytest.approx(single[name].high, abs=width / 5)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Wilson's interval as published: Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(hits: int, n: int, low: float, high: float) -> None:
    found = metrics.rate(np.arange(n) < hits)
    assert found.value == hits / n
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
