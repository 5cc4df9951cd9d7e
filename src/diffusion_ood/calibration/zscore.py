"""Z-scores against the validation images: how unusual is a value for its noise level?

    z_{i,t} = (x_{i,t} - mean_t) / std_t

with the mean and the standard deviation of level t over the validation images (Graham et al.,
"Denoising diffusion models for out-of-distribution detection", CVPR Workshops 2023, section 3).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


class ZScore(StandardisedHead):
    """The mean z-score over levels, summed over columns, for values that are large where OOD.

    Of the columns `mse` and `perceptual_difference` it is the paper's score.
    """

    constant = "refuse"

    def _score(self, z: Matrix) -> Matrix:
        return self.by_level(z).mean(axis=1)


class TopLevels(StandardisedHead):
    """The mean of the highest z-scores of an image over levels, summed over columns at each level.

    Args:
        top_fraction: the share of the levels that count, rounded up.
    """

    constant = "refuse"

    def __init__(self, top_fraction: float = 0.25) -> None:
        self.top_fraction = top_fraction

    def _fit(self, z: Matrix) -> State:
        return {"top_fraction": self.top_fraction}

    def _score(self, z: Matrix) -> Matrix:
        by_level = np.sort(self.by_level(z), axis=1)
        num_top = math.ceil(self.fitted["top_fraction"] * by_level.shape[1])
        return by_level[:, -num_top:].mean(axis=1)


class TwoSidedZScore(StandardisedHead):
    """The mean |z| over all features, for values that may be too large or too small where OOD."""

    def _score(self, z: Matrix) -> Matrix:
        return np.abs(z).mean(axis=1)


class Average(StandardisedHead):
    """The mean of the values themselves over levels, summed over columns: no z-scores."""

    constant = "keep"

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """See `Head`."""
        values = self.by_level(self.values(features))
        return pd.Series(values.mean(axis=1), index=features.index)
