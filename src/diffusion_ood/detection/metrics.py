"""How well scores separate two sets, with bootstrap intervals.

A higher score is more out of distribution (OOD), and OOD is the positive class. Values are
fractions.

    auroc     P(s_out > s_in) + P(s_out = s_in) / 2
    aupr_out  average precision Σ_k (R_k - R_{k-1}) P_k, OOD positive
    aupr_in   the same with in-distribution positive and the scores negated
    fpr95     smallest share of in-distribution images at a threshold that finds 95 % of the OOD
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_ood.calibration.conformal import finite_scores

TITLES = {"auroc": "AUROC", "aupr_out": "AUPR-out", "aupr_in": "AUPR-in", "fpr95": "FPR95"}
METRICS = tuple(TITLES)

_CONFIDENCE = 0.95
_Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_MAX_UNGROUPED, _NUM_GROUPS = 20_000, 5_000
_CHUNK_ELEMENTS = 200_000  # of an array of a chunk of resamples: 1.6 MB, which caches hold


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % confidence interval; without bounds where none was estimated."""

    value: float
    low: float | None = None
    high: float | None = None


def evaluate(
    in_scores: ArrayLike, out_scores: ArrayLike, *, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """All metrics with percentile intervals of a stratified bootstrap (Efron 1979).

    In-distribution and OOD images are resampled separately. The same seed and numbers of images
    give the same resamples.

    Args:
        in_scores: `(N,)` scores of in-distribution images.
        out_scores: `(M,)` scores of OOD images.
        n_bootstrap: number of resamples; 0 leaves the bounds out.
        seed: of the resampling.

    Raises:
        ValueError: an empty set, or a score that is not finite.
    """
    s_in, s_out = finite_scores(in_scores, "in"), finite_scores(out_scores, "out")
    point = weighted_metrics(s_in, s_out, np.ones((1, s_in.size)), np.ones((1, s_out.size)))
    if n_bootstrap == 0:
        return {name: Interval(float(point[name][0])) for name in METRICS}
    tails = [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2]
    resampled = _resample(s_in, s_out, n_bootstrap, np.random.default_rng(seed))
    intervals = {}
    for name in METRICS:
        low, high = np.quantile(resampled[name], tails)
        intervals[name] = Interval(float(point[name][0]), float(low), float(high))
    return intervals


def mean(sets: Sequence[Mapping[str, Interval]]) -> dict[str, Interval]:
    """The mean over OOD sets of each metric, without bounds."""
    return {
        name: Interval(sum(found[name].value for found in sets) / len(sets)) for name in METRICS
    }


def weighted_metrics(
    in_scores: NDArray[np.float64],
    out_scores: NDArray[np.float64],
    in_weights: NDArray[np.float64],
    out_weights: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """The metrics `(R,)` of R weightings of the same images.

    Args:
        in_scores: `(N,)`.
        out_scores: `(M,)`.
        in_weights: `(R, N)` how often each image counts; every row has a positive sum.
        out_weights: `(R, M)`.
    """
    thresholds, level = np.unique(np.concatenate([in_scores, out_scores]), return_inverse=True)
    level = thresholds.size - 1 - level  # level 0 is the highest score
    d_fp = _weight_per_level(in_weights, level[: in_scores.size], thresholds.size)
    d_tp = _weight_per_level(out_weights, level[in_scores.size :], thresholds.size)
    fp, tp = d_fp.cumsum(axis=1), d_tp.cumsum(axis=1)
    num_in, num_out = fp[:, -1:], tp[:, -1:]
    # Seen from below, at the same thresholds: images whose score is at most the threshold.
    in_below, out_below = num_in - fp + d_fp, num_out - tp + d_tp
    reached = tp / num_out >= 0.95
    first = reached.argmax(axis=1)[:, None]
    pairs = (num_in * num_out)[:, 0]
    return {
        "auroc": (d_fp * (tp - d_tp / 2)).sum(axis=1) / pairs,
        "aupr_out": (d_tp * _share(tp, fp)).sum(axis=1) / num_out[:, 0],
        "aupr_in": (d_fp * _share(in_below, out_below)).sum(axis=1) / num_in[:, 0],
        "fpr95": (np.take_along_axis(fp, first, axis=1) / num_in)[:, 0],
    }


def rate(hits: ArrayLike) -> Interval:
    """The share of `hits` `(N,)` with its 95 % interval (Wilson 1927).

    (p̂ + z²/2n ± z √(p̂(1 - p̂)/n + z²/4n²)) / (1 + z²/n)
    """
    vector = np.asarray(hits, dtype=bool)
    n, p = vector.size, float(vector.mean())
    z = _Z_95
    centre = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    whole = 1 + z**2 / n
    return Interval(p, max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole))


def _resample(
    s_in: NDArray[np.float64], s_out: NDArray[np.float64], num: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """The metrics `(num,)` of resamples, a chunk at a time to bound the memory."""
    s_in, s_out, n_in, n_out = _grouped(s_in, s_out)
    chunk = max(1, _CHUNK_ELEMENTS // (s_in.size + s_out.size))
    parts = []
    for start in range(0, num, chunk):
        size = min(chunk, num - start)
        counts = _counts(rng, size, n_in), _counts(rng, size, n_out)
        parts.append(weighted_metrics(s_in, s_out, *counts))
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _grouped(
    s_in: NDArray[np.float64], s_out: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """The scores of both sets, and how many images have each; of many images, neighbours as one.

    With the quantiles of both sets together as borders, the metrics change by less than 1/5000.
    """
    if s_in.size + s_out.size <= _MAX_UNGROUPED:
        return s_in, s_out, np.ones(s_in.size), np.ones(s_out.size)
    pooled = np.concatenate([s_in, s_out])
    borders = np.quantile(pooled, np.linspace(0, 1, _NUM_GROUPS + 1)[1:-1])
    groups = [np.searchsorted(borders, scores).astype(np.float64) for scores in (s_in, s_out)]
    (in_groups, n_in), (out_groups, n_out) = (np.unique(g, return_counts=True) for g in groups)
    return in_groups, out_groups, n_in.astype(np.float64), n_out.astype(np.float64)


def _counts(
    rng: np.random.Generator, num_resamples: int, images: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(R, K)`: how often each of K groups of so many images is drawn, with replacement."""
    n = int(images.sum())
    return rng.multinomial(n, images / n, size=num_resamples).astype(np.float64)


def _weight_per_level(
    weights: NDArray[np.float64], level: NDArray[np.intp], num_levels: int
) -> NDArray[np.float64]:
    """`(R, K)`: the weight of the images at each of K levels."""
    order = np.argsort(level, kind="stable")
    present, starts = np.unique(level[order], return_index=True)
    per_level = np.zeros((len(weights), num_levels))
    per_level[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return per_level


def _share(part: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient part / (part + other), and 0 where both are 0."""
    whole = part + other
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
