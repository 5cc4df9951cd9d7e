"""The numbers behind the figures, bounded in size whatever the number of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.image_scores import BOTH

Vector = NDArray[np.float64]

MAX_ROC_POINTS = 200
MAX_SCATTER_POINTS = 400  # of each set
MAX_BINS = 40
TAIL = 0.005  # of the images beyond each end of the bins' range, counted in the last bins


@dataclass(frozen=True)
class Levels:
    """Quartiles and mean of the z-scores of a set's images at each t, each `(levels,)`."""

    t: Vector
    low: Vector
    mean: Vector
    high: Vector


def roc(in_scores: Vector, out_scores: Vector) -> tuple[Vector, Vector]:
    """False- and true-positive rates, of at most 200 thresholds."""
    thresholds = np.unique(np.r_[in_scores, out_scores])[::-1]
    rates = []
    for scores in (in_scores, out_scores):
        below = np.searchsorted(np.sort(scores), thresholds, side="left")
        rates.append(np.r_[0.0, 1 - below / scores.size])
    fpr, tpr = rates
    if fpr.size > MAX_ROC_POINTS:
        # Evenly along the curve: by the distance gone, right and up.
        along = np.linspace(0, 2, MAX_ROC_POINTS)
        kept = np.unique(np.searchsorted(fpr + tpr, along).clip(0, fpr.size - 1))
        fpr, tpr = fpr[kept], tpr[kept]
    return fpr, tpr


def histograms(in_scores: Vector, out_scores: Vector) -> tuple[Vector, Vector, Vector]:
    """Edges of common bins, and the share of each set in each; what lies beyond is in the last."""
    both = np.r_[in_scores, out_scores]
    low, high = np.quantile(both, [TAIL, 1 - TAIL])
    low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    bins = int(np.clip(2 * min(in_scores.size, out_scores.size) ** (1 / 3), 6, MAX_BINS))  # Rice
    edges = np.linspace(low, high, bins + 1)
    of_in, of_out = (
        np.histogram(scores.clip(low, high), edges)[0] / scores.size
        for scores in (in_scores, out_scores)
    )
    return edges, of_in, of_out


def levels(results: Assessment, name: str) -> Levels | None:
    """How the z-scores of a set depend on t; None where one is not finite."""
    z = results.z_by_level(name)
    if not np.isfinite(z).all(axis=None):
        return None
    low, high = z.quantile(0.25), z.quantile(0.75)
    t = np.asarray(z.columns, dtype=np.float64)
    return Levels(t, low.to_numpy(), z.mean().to_numpy(), high.to_numpy())


def scatter(results: Assessment, name: str) -> tuple[Vector, Vector] | None:
    """The mean z-scores of MSE and LPIPS of a sample of a set; None without both of them."""
    scores = results.scores[name]
    if BOTH not in scores:
        return None
    pairs = scores[["mse", "perceptual_difference"]]
    if len(pairs) > MAX_SCATTER_POINTS:
        pairs = pairs.iloc[_spread(len(pairs))]
    return pairs["mse"].to_numpy(), pairs["perceptual_difference"].to_numpy()


def primary_scores(results: Assessment, name: str) -> Vector:
    """The scores of a set that decisions are made by."""
    scores: pd.Series[float] = results.scores[name].iloc[:, 0]
    return scores.to_numpy(dtype=np.float64)


def _spread(n: int) -> NDArray[np.intp]:
    """A sample of n images that is the same each time."""
    return np.sort(np.random.default_rng(0).choice(n, MAX_SCATTER_POINTS, replace=False))
