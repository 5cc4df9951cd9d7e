"""The numbers behind the figures, bounded in size whatever the number of images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.image_scores import BOTH, SUMMED

Vector = NDArray[np.float64]

NUM_THRESHOLDS = 201
MAX_ROC_POINTS = 200
MAX_SCATTER_POINTS = 400  # of each set
MAX_BINS = 40
TAIL = 0.005  # of the images beyond each end of the bins' range, counted in the last bins


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


def pr_table(truth: ArrayLike, scores: ArrayLike) -> Vector:
    """TP, FP, TN, FN, precision and recall at 201 quantiles of the scores, rising: `(6, 201)`."""
    positive, values = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    thresholds = np.quantile(values, np.linspace(0, 1, NUM_THRESHOLDS), method="higher")
    fn, tn = (
        np.searchsorted(np.sort(part), thresholds) for part in (values[positive], values[~positive])
    )
    tp, fp = positive.sum() - fn, (~positive).sum() - tn
    return np.stack([tp, fp, tn, fn, tp / np.maximum(tp + fp, 1), tp / max(1, positive.sum())])


def histograms(in_scores: Vector, out_scores: Vector) -> tuple[Vector, Vector, Vector]:
    """Edges of common bins, and the share of each set in each; what lies beyond is in the last."""
    low, high = np.quantile(np.r_[in_scores, out_scores], [TAIL, 1 - TAIL])
    low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    bins = int(np.clip(2 * min(in_scores.size, out_scores.size) ** (1 / 3), 6, MAX_BINS))  # Rice
    edges = np.linspace(low, high, bins + 1)
    of_in, of_out = (
        np.histogram(scores.clip(low, high), edges)[0] / scores.size
        for scores in (in_scores, out_scores)
    )
    return edges, of_in, of_out


def levels(results: Assessment, name: str) -> pd.DataFrame | None:
    """Quartiles `low`, `high` and `mean` of a set's z-scores at each t, if all are finite."""
    z = results.z_by_level(name)
    if not np.isfinite(z).all(axis=None):
        return None
    return pd.DataFrame({"low": z.quantile(0.25), "mean": z.mean(), "high": z.quantile(0.75)})


def scatter(results: Assessment, name: str) -> tuple[Vector, Vector] | None:
    """The mean z-scores of MSE and LPIPS of a sample of a set; None without both of them."""
    scores = results.scores[name]
    if BOTH not in scores:
        return None
    points = scores[list(SUMMED)].to_numpy()
    if len(points) > MAX_SCATTER_POINTS:  # a sample that is the same each time
        chosen = np.random.default_rng(0).choice(len(points), MAX_SCATTER_POINTS, replace=False)
        points = points[np.sort(chosen)]
    return points[:, 0], points[:, 1]
