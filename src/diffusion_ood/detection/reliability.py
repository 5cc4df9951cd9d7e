"""How much each start point counts: by how well the validation images' scores are estimated there.

A score is what the image makes of it and what the noise drawn for it does. Noise is drawn anew at
every start point, so that what the scores of neighbouring start points share is the image: their
correlation over the validation images estimates the reliability, the image's part of the variance.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def reliabilities(levels: pd.DataFrame) -> pd.DataFrame:
    """The weight of each start point, indexed by t; 1 on average.

    Args:
        levels: scores of the validation images, indexed by (filename, t), a column a score.

    Returns:
        Columns as in `levels`: a start point's mean correlation with the next lower and the next
        higher one, no less than 0, over the mean of all start points; 1 where all would be 0.
    """
    rows = levels.reset_index()
    return pd.DataFrame(
        {
            name: _weights(rows.pivot_table(index="filename", columns="t", values=str(name)))
            for name in levels.columns
        }
    )


def _weights(scores: pd.DataFrame) -> pd.Series:
    """The weights by one score, a row an image and a column a start point, rising."""
    correlations = scores.corr().to_numpy()
    between = np.nan_to_num(np.diagonal(correlations, offset=1))  # where there is no spread: 0
    mean = [
        between[max(0, k - 1) : k + 1].mean() if len(between) else 1.0
        for k in range(len(correlations))
    ]
    weights = pd.Series(mean, index=scores.columns).clip(lower=0)
    return weights / weights.mean() if weights.any() else weights + 1
