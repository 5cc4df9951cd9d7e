"""How well scores separate two sets, with 95 % intervals.

A higher score is more out of distribution (OOD), and OOD is the positive class. Values are
fractions.

    auroc     P(s_out > s_in) + P(s_out = s_in) / 2
    aupr_out  average precision Σ_k (R_k - R_{k-1}) P_k, OOD positive
    aupr_in   the same with in-distribution positive and the scores negated
    fpr95     smallest share of in-distribution images at a threshold that finds 95 % of the OOD

An interval is for the value of unlimited numbers of images, in the ratio of the two sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from diffusion_ood.calibration.conformal import finite_scores

Floats = NDArray[np.float64]

TITLES = {"auroc": "AUROC", "aupr_out": "AUPR-out", "aupr_in": "AUPR-in", "fpr95": "FPR95"}
METRICS = tuple(TITLES)

_Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_PSEUDO_IMAGES = 1.0  # of each set, in the population of the resamples
_SPREAD = 10  # levels for one, in the population: between two scores there are others
_MAX_LEVELS = 2000  # of the score, in resamples
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
    """All metrics; the same seed and numbers of images give the same resamples.

    Args:
        in_scores: `(N,)` scores of in-distribution images.
        out_scores: `(M,)` scores of OOD images.
        n_bootstrap: number of resamples for the intervals; 0 leaves these out.
        seed: of the resampling.

    Raises:
        ValueError: an empty set, or a score that is not finite.
    """
    s_in, s_out = finite_scores(in_scores, "in"), finite_scores(out_scores, "out")
    found = weighted_metrics(s_in, s_out, np.ones((1, s_in.size)), np.ones((1, s_out.size)))
    values = {name: float(found[name][0]) for name in METRICS}
    if n_bootstrap == 0:
        return {name: Interval(value) for name, value in values.items()}
    rng = np.random.default_rng(seed)
    resamples = _resample(s_in, s_out, n_bootstrap, rng)
    num = min(s_in.size, s_out.size)
    bounds = {k: _wilson_of_mean(k, values[k], resamples[k], num) for k in METRICS[:3]}
    bounds["fpr95"] = _fpr95_bounds(s_in, s_out, n_bootstrap, rng)
    return {
        name: Interval(value, min(value, bounds[name][0]), max(value, bounds[name][1]))
        for name, value in values.items()
    }


def mean(sets: Sequence[Mapping[str, Interval]]) -> dict[str, Interval]:
    """The mean over OOD sets of each metric, without bounds."""
    return {
        name: Interval(sum(found[name].value for found in sets) / len(sets)) for name in METRICS
    }


def weighted_metrics(
    in_scores: Floats, out_scores: Floats, in_weights: Floats, out_weights: Floats
) -> dict[str, Floats]:
    """The metrics `(R,)` of R weightings of the same images.

    Scores are `(N,)` and `(M,)`, weights `(R, N)` and `(R, M)`, each row with a positive sum.
    """
    thresholds, level = np.unique(np.concatenate([in_scores, out_scores]), return_inverse=True)
    level = thresholds.size - 1 - level  # level 0 is the highest score
    d_fp, d_tp = np.zeros((2, len(in_weights), thresholds.size))
    np.add.at(d_fp.T, level[: in_scores.size], in_weights.T)
    np.add.at(d_tp.T, level[in_scores.size :], out_weights.T)
    return _metrics_of_levels(d_fp, d_tp)


def rate(hits: ArrayLike) -> Interval:
    """The share of `hits` `(N,)` with its 95 % interval (Wilson 1927)."""
    share = float(np.mean(np.asarray(hits, dtype=bool)))
    low, high = _wilson(share, np.size(hits), _Z_95)
    return Interval(share, float(low), float(high))


def _wilson(p: ArrayLike, n: ArrayLike, z: ArrayLike) -> tuple[Floats, Floats]:
    """The bounds P of a share p of n images, |p - P| = z √(P (1 - P) / n).

    (p + z²/2n ± z √(p (1 - p)/n + z²/4n²)) / (1 + z²/n)
    """
    p, n, z = np.asarray(p, np.float64), np.asarray(n, np.float64), np.asarray(z, np.float64)
    centre = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    whole = 1 + z**2 / n
    return np.clip((centre - half) / whole, 0, 1), np.clip((centre + half) / whole, 0, 1)


def _wilson_of_mean(name: str, value: float, resamples: Floats, num: int) -> tuple[float, float]:
    """Wilson's bounds of a metric for as many images as give a share the resamples' variance.

    `resamples` `(1 + R,)` are a population's value and those of R resamples of it; the bias of
    their mean is taken off the bounds, on the logit scale. No variance is above that of a share of
    `num` images, the smaller set (Birnbaum and McCarty 1958); it counts like one more resample.
    """
    population, average = resamples[0], resamples.mean()
    squares = ((resamples - population) ** 2).sum() + population * (1 - population) / num
    if name != "auroc":
        squares *= 1 + num**-0.5  # the bias is estimated: chosen by benchmarks/interval_coverage.py
    images = average * (1 - average) / (squares / resamples.size)
    bounds = _wilson(value, images, stats.t.ppf(0.975, resamples.size - 1))
    bias = special.logit(average) - special.logit(population)
    low, high = special.expit(special.logit(bounds) - bias)
    return float(low), float(high)


def _fpr95_bounds(s_in: Floats, s_out: Floats, num: int, rng: Generator) -> tuple[float, float]:
    """The shortest interval of 95 % of `num` shares that would fit the images.

    Binomial(M, 0.05) of M OOD scores lie below the true threshold, which is anywhere between the
    neighbours there, and beyond all scores where it has none. Of b of N in-distribution images
    above it, the share is distributed as Beta(b + 1/2, N - b + 1/2) (Jeffreys).
    """
    above = s_in.size - np.searchsorted(np.sort(s_in), np.sort(s_out))
    ranks = rng.binomial(s_out.size, 0.05, num) + rng.random(num)
    counts = np.interp(ranks, np.arange(s_out.size + 2), [s_in.size, *above, 0])
    drawn = rng.beta(counts + 0.5, s_in.size - counts + 0.5)
    shares = np.sort([0, *drawn, 1])  # few draws leave all open
    apart = math.ceil(0.95 * shares.size)
    first = (shares[apart:] - shares[:-apart]).argmin() if apart < shares.size else 0
    return float(shares[first]), float(shares[min(first + apart, shares.size - 1)])


def _resample(s_in: Floats, s_out: Floats, num: int, rng: Generator) -> dict[str, Floats]:
    """The metrics `(1 + num,)` of a population like the images, and of resamples of it.

    Each set has one image more there, which has any rank with the same probability: where the
    images are separated, others need not be. The sets are resampled separately.
    """
    images = _images_per_level(s_in, s_out)
    sizes, num_levels = images.sum(axis=1), images.shape[1]
    shares = (images + _PSEUDO_IMAGES / num_levels) / (sizes[:, None] + _PSEUDO_IMAGES)
    spread = np.repeat(sizes[:, None] * shares / _SPREAD, _SPREAD, axis=1)
    parts = [_metrics_of_levels(*spread[:, None])]
    chunk = max(1, _CHUNK_ELEMENTS // num_levels)
    for start in range(0, num, chunk):
        rows = min(chunk, num - start)
        drawn = [rng.multinomial(n, p, rows) for n, p in zip(sizes, shares, strict=True)]
        parts.append(_metrics_of_levels(*np.array(drawn, dtype=np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _images_per_level(s_in: Floats, s_out: Floats) -> NDArray[np.intp]:
    """`(2, K)`: images at levels of the score, from the highest, and none beyond either end."""
    pooled = np.concatenate([s_in, s_out])
    tops = np.unique(pooled)
    if tops.size > _MAX_LEVELS:
        tops = np.unique(np.quantile(pooled, np.linspace(0, 1, _MAX_LEVELS + 1)[1:]))
    levels = (tops.size - np.searchsorted(tops, scores) for scores in (s_in, s_out))
    return np.stack([np.bincount(level, minlength=tops.size + 2) for level in levels])


def _metrics_of_levels(d_fp: Floats, d_tp: Floats) -> dict[str, Floats]:
    """The metrics `(R,)` of weights `(R, K)` of in-distribution and OOD images at K levels."""
    fp, tp = d_fp.cumsum(axis=1), d_tp.cumsum(axis=1)
    num_in, num_out = fp[:, -1:], tp[:, -1:]
    # Seen from below, at the same thresholds: images whose score is at most the threshold.
    in_below, out_below = num_in - fp + d_fp, num_out - tp + d_tp
    first = (tp / num_out >= 0.95).argmax(axis=1)[:, None]
    return {
        "auroc": (d_fp * (tp - d_tp / 2)).sum(axis=1) / (num_in * num_out)[:, 0],
        "aupr_out": (d_tp * _share(tp, fp)).sum(axis=1) / num_out[:, 0],
        "aupr_in": (d_fp * _share(in_below, out_below)).sum(axis=1) / num_in[:, 0],
        "fpr95": (np.take_along_axis(fp, first, axis=1) / num_in)[:, 0],
    }


def _share(part: Floats, other: Floats) -> Floats:
    """The quotient part / (part + other), and 0 where both are 0."""
    whole = part + other
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
