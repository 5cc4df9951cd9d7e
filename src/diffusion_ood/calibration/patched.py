"""How much each score at each start point counts in what is reported of an image.

A target is a weighted sum of z-scores: of one score, or `both`, of MSE and LPIPS. The weights of a
target are a column, with a row for each (score, t). All of them come from validation images alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
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


def separation(z: pd.DataFrame, patched: pd.DataFrame) -> pd.DataFrame:
    """Weights that best tell validation images from the same images with a foreign patch.

    With Σ the covariance of the z-scores and δ by how much patches raise them on average,

        w = argmin wᵀ(Σ + I)w − 2δᵀw over w ≥ 0

    which without the bound is the direction (Σ + I)⁻¹δ in which the patches stand out most from the
    spread of the validation images. The identity, as if each z-score had as much variance again of
    its own, keeps few images from making much of small differences (Friedman 1989, regularized
    discriminant analysis). Where patches raise nothing, weights are equal.

    Args:
        z: z-scores of validation images: index filename, columns (score, t).
        patched: the same of the patched images.

    Returns:
        As `equal`, with the same sum in each column.
    """
    assert isinstance(z.columns, pd.MultiIndex)
    weights = equal(z.columns)
    covariance = z.cov().to_numpy()
    raised = (patched[z.columns].mean() - z.mean()).to_numpy()
    for target in weights:
        used = weights[target].to_numpy() > 0
        root = np.linalg.cholesky(covariance[np.ix_(used, used)] + np.eye(int(used.sum())))
        found, _ = nnls(root.T, np.linalg.solve(root, raised[used]), maxiter=100 * len(root))
        if found.any():
            weights.loc[used, target] = found * weights[target].sum() / found.sum()
    return weights
