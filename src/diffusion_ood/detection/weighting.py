"""How much each score at each start point counts in what is reported of an image.

A target is a weighted sum of z-scores: of one score, or `both`, of MSE and LPIPS. The weights of a
target are a column, with a row for each (score, t). All of them come from validation images alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

BOTH = "both"
"""The paper's score: the sum of the z-scores of `mse` and `perceptual_difference`."""

SUMMED = ("mse", "perceptual_difference")


def equal(cells: pd.MultiIndex) -> pd.DataFrame:
    """The mean over start points, and for `both` the sum of two such means (the paper's).

    Args:
        cells: every (score, t).

    Returns:
        The weights: index (score, t), columns targets.
    """
    scores = cells.get_level_values(0)
    members: dict[str, Sequence[str]] = {str(name): [str(name)] for name in scores.unique()}
    if set(SUMMED) <= members.keys():
        members[BOTH] = SUMMED
    share = 1 / cells.get_level_values(1).nunique()
    return pd.DataFrame(
        {target: share * scores.isin(names) for target, names in members.items()}, index=cells
    )


def reliability(z: pd.DataFrame) -> pd.DataFrame:
    """Weights by how well a score is estimated at each start point.

    A score is what the image makes of it and what the noise drawn for it does. Noise is drawn anew
    at every start point, so that what neighbouring start points share is the image. The weight of
    a start point is its mean correlation with the next lower and the next higher one over the
    validation images, no less than 0; where all would be 0, they are equal.

    Args:
        z: z-scores of validation images: index filename, columns (score, t).

    Returns:
        As `equal`, with the same sum in each column.
    """
    weights = _equal(z)
    for score in z.columns.get_level_values(0).unique():
        weights.loc[score] = weights.loc[score].mul(_agreement(z[score]), axis=0).to_numpy()
    return weights


def separation(z: pd.DataFrame, patched: pd.DataFrame) -> pd.DataFrame:
    """Weights that best tell validation images from the same images with a foreign patch.

    They are the non-negative ridge regression of the labels 0 and 1 on the z-scores, with the
    number of images as penalty: the linear discriminant of the covariance Σ + I, as if each z-score
    had as much variance again of its own (Friedman 1989, regularized discriminant analysis). So
    few images do not make much of small differences. Where patches change nothing, weights are
    equal.

    Args:
        z: z-scores of validation images: index filename, columns (score, t).
        patched: the same of the patched images.

    Returns:
        As `equal`, with the same sum in each column.
    """
    weights = _equal(z)
    features = pd.concat([z, patched[z.columns]]).to_numpy()
    features = features - features.mean(axis=0)
    n = len(features)
    labels = np.r_[np.zeros(len(z)), np.ones(len(patched))]
    for target in weights:
        used = weights[target].to_numpy() > 0
        size = int(used.sum())
        rows = np.vstack([features[:, used], n**0.5 * np.eye(size)])  # the penalty, as more images
        found, _ = nnls(rows, np.r_[labels - labels.mean(), np.zeros(size)], maxiter=100 * size)
        if found.any():
            weights.loc[used, target] = found * weights[target].sum() / found.sum()
    return weights


def _equal(z: pd.DataFrame) -> pd.DataFrame:
    assert isinstance(z.columns, pd.MultiIndex)
    return equal(z.columns)


def _agreement(levels: pd.DataFrame) -> NDArray[np.float64]:
    """What `reliability` says of the columns of one score, 1 on average."""
    correlations = levels.corr().to_numpy()
    between = np.nan_to_num(np.diagonal(correlations, offset=1))  # where there is no spread: 0
    mean = [
        between[max(0, k - 1) : k + 1].mean() if len(between) else 1.0
        for k in range(len(correlations))
    ]
    weights = np.clip(mean, 0, None)
    return weights / weights.mean() if weights.any() else np.ones(len(weights))
