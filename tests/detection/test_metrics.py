"""Metrics against hand-worked cases and scikit-learn; intervals against formulas and draws."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats
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


def test_aurocs_interval_is_wilsons_for_the_variance_of_its_population() -> None:
    rng = np.random.default_rng(2)
    s_in, s_out = rng.integers(0, 9, 12).astype(float), rng.integers(3, 12, 7).astype(float)
    # One more image of each set, in equal shares at every score and beyond all scores.
    scores = np.array([-np.inf, *np.unique([*s_in, *s_out]), np.inf])
    p, q = (
        ((s[:, None] == scores).sum(axis=0) + 1 / len(scores)) / (len(s) + 1) for s in (s_in, s_out)
    )
    kernel = (scores[:, None] > scores) + (scores[:, None] == scores) / 2  # out by in
    mean = q @ kernel @ p
    # The variance of the two-sample U statistic (Lehmann 1951).
    of_out, of_in = q @ (kernel @ p) ** 2, (q @ kernel) ** 2 @ p
    products = q @ kernel**2 @ p + 11 * of_out + 6 * of_in
    variance = (products - (12 + 7 - 1) * mean**2) / (12 * 7)
    value = values(s_in, s_out)["auroc"]
    expected = optimize.brentq(
        lambda a: (value - a) ** 2 - 1.96**2 * a * (1 - a) * variance / (mean * (1 - mean)),
        0,
        value,
    )
    found = evaluate(s_in, s_out, n_bootstrap=50_000)["auroc"]
    assert found.low == pytest.approx(expected, abs=0.005)


def test_one_image_against_one_by_hand() -> None:
    """Four scores, of which an image has its own with 5/8 and each other one with 1/8."""
    found = evaluate([0], [1], n_bootstrap=50_000)
    mean, square = 19 / 32 + 6 / 32 / 2, 19 / 32 + 6 / 32 / 4  # above in 19, equal in 6 of 32
    images = mean * (1 - mean) / (square - mean**2)
    assert found["auroc"].low == pytest.approx(images / (images + 1.96**2), abs=0.005)
    assert {name: found[name].high for name in METRICS[:3]} == dict.fromkeys(METRICS[:3], 1.0)
    assert found["fpr95"].low == 0.0
    assert found["fpr95"].high > 0.95


def test_many_images_have_delongs_interval() -> None:
    rng = np.random.default_rng(2)
    n = 2000
    s_in, s_out = rng.normal(size=n), rng.normal(1, size=n)
    found = evaluate(s_in, s_out, n_bootstrap=5000)["auroc"]
    above = (s_out[:, None] > s_in).mean(axis=1), (s_out[:, None] > s_in).mean(axis=0)
    standard_error = np.sqrt(sum(np.var(v, ddof=1) / n for v in above))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(standard_error, rel=0.04)
    assert found.low < found.value < found.high


def shortest(quantile: Callable[[NDArray], NDArray]) -> tuple[float, float]:
    """The shortest interval of 95 % of a distribution."""
    below = np.linspace(0, 0.05, 10_001)
    low, high = quantile(below), quantile(below + 0.95)
    best = (high - low).argmin()
    return low[best], high[best]


def test_fpr95_is_a_share_where_the_threshold_is_certain() -> None:
    """All OOD scores are equal, and three of twenty in-distribution ones are above them."""
    s_in, s_out = np.r_[np.zeros(17), np.full(3, 2.0)], np.ones(3000)
    found = metrics._fpr95_bounds(s_in, s_out, 50_000, np.random.default_rng(0))
    low, high = shortest(lambda p: stats.beta.ppf(p, 3.5, 17.5))
    assert found == pytest.approx((low, high), abs=0.012)


def test_fpr95_is_an_order_statistic_where_the_in_distribution_is_known() -> None:
    """Of many in-distribution images, a share of 0.8 - 0.008 r lies above OOD rank r of 100."""
    s_in, s_out = np.linspace(0, 1, 200_001), np.linspace(0.2, 1, 101)[1:]
    found = metrics._fpr95_bounds(s_in, s_out, 50_000, np.random.default_rng(0))
    # Five of a hundred lie below the threshold, by chance; it is anywhere between two of them.
    ranks = np.arange(102)
    chance = stats.binom.cdf(ranks - 1, 100, 0.05)
    low, high = shortest(lambda p: np.interp(p, chance, ranks))
    assert found == pytest.approx((0.8 - 0.008 * high, 0.8 - 0.008 * low), abs=0.005)


def test_intervals_depend_on_the_order_alone_and_hold_the_value() -> None:
    rng = np.random.default_rng(5)
    for n, m in ((1, 1), (1, 30), (30, 1), (12, 9), (80, 80)):
        s_in, s_out = rng.normal(size=n), rng.normal(rng.choice([0, 1, 9]), size=m)
        found = evaluate(s_in, s_out, n_bootstrap=100)
        assert found == evaluate(np.exp(s_in), np.exp(s_out), n_bootstrap=100)
        for interval in found.values():
            assert 0 <= interval.low <= interval.value <= interval.high <= 1
            assert interval.high - interval.low > 0.005


def test_equal_scores_promise_nothing() -> None:
    found = evaluate([7.0] * 5, [7.0] * 5)
    assert found["auroc"].low < 0.35
    assert found["auroc"].high > 0.65


@pytest.mark.parametrize("num", [1, 2, 5])
def test_few_resamples_give_wider_intervals(num: int) -> None:
    rng = np.random.default_rng(6)
    s_in, s_out = rng.normal(size=40), rng.normal(1, size=40)
    few, many = (
        np.mean(
            [
                found.high - found.low
                for seed in range(40)
                for found in [evaluate(s_in, s_out, n_bootstrap=n, seed=seed)["auroc"]]
            ]
        )
        for n in (num, 500)
    )
    assert few > 1.05 * many


@pytest.mark.parametrize(
    ("auroc", "n"), [(0.5, 10), (0.9, 10), (0.7, 40), (0.95, 40), (0.99, 40), (1, 10)]
)
def test_intervals_hold_the_true_value_as_often_as_they_claim(auroc: float, n: int) -> None:
    """Of normal distributions, with 300 draws; `make coverage` has 1,000 of more cases."""
    rng = np.random.default_rng(7)
    shift = np.sqrt(2) * stats.norm.ppf(auroc) if auroc < 1 else 40.0
    t = np.linspace(-9, 9 + shift, 200_001)
    true_positive, false_positive = stats.norm.sf(t - shift), stats.norm.sf(t)
    found_out = true_positive / np.maximum(true_positive + false_positive, 1e-300)
    found_in = stats.norm.cdf(t) / np.maximum(stats.norm.cdf(t) + stats.norm.cdf(t - shift), 1e-300)
    true = {
        "auroc": auroc,
        "aupr_out": np.trapezoid(found_out * stats.norm.pdf(t - shift), t),
        "aupr_in": np.trapezoid(found_in * stats.norm.pdf(t), t),
        "fpr95": stats.norm.sf(shift + stats.norm.ppf(0.05)),
    }
    held = dict.fromkeys(METRICS, 0)
    for seed in range(300):
        found = evaluate(rng.normal(size=n), rng.normal(shift, size=n), n_bootstrap=100, seed=seed)
        for name, interval in found.items():
            held[name] += interval.low - 1e-6 <= true[name] <= interval.high + 1e-6
    assert min(held.values()) / 300 >= 0.93


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


def test_a_thousand_resamples_of_twenty_thousand_images_are_quick() -> None:
    rng = np.random.default_rng(4)
    s_in, s_out = rng.normal(size=10_000), rng.normal(1, size=10_000)
    start = time.process_time()
    evaluate(s_in, s_out, n_bootstrap=1000)
    assert time.process_time() - start < 2  # about 0.5 s; the rest is for a busy machine


def test_many_images_are_resampled_in_groups_with_the_same_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    s_in, s_out = rng.normal(size=12_000), rng.normal(1, 1.5, size=9_000)
    grouped = metrics.evaluate(s_in, s_out, n_bootstrap=200)
    monkeypatch.setattr(metrics, "_MAX_LEVELS", 10**9)
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
