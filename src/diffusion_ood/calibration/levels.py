"""A score of the noise levels at which an image is most unusual."""

from __future__ import annotations

import math

import numpy as np

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


class TopLevels(StandardisedHead):
    """The mean of the highest z-scores of an image over levels, summed over columns at each level.

    Args:
        top_fraction: the share of the levels that count, rounded up.
    """

    constant = "refuse"

    def __init__(self, top_fraction: float = 0.25) -> None:
        super().__init__()
        self.top_fraction = top_fraction

    def _fit(self, z: Matrix) -> State:
        return {"top_fraction": self.top_fraction}

    def _score(self, z: Matrix) -> Matrix:
        by_level = np.sort(self.by_level(z), axis=1)
        num_top = math.ceil(self.fitted["top_fraction"] * by_level.shape[1])
        return by_level[:, -num_top:].mean(axis=1)
