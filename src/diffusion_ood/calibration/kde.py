"""Kernel densities, one a feature."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State

CHUNK_ELEMENTS = 1_000_000  # of the distances that are computed at a time


class KernelDensity(StandardisedHead):
    """The sum over standardised features of −log of a Gaussian kernel density.

    p_j(z) = Σ_i exp(−(z − z_ij)² / 2h_j²) / (n h_j √(2π)) over n images, with the bandwidth
    h_j = 0.9 min(sd_j, IQR_j / 1.34) n^(−1/5) (Silverman 1986, equation 3.31); where the quartiles
    are equal, sd_j alone counts.
    """

    def _fit(self, z: Matrix) -> State:
        low, high = np.quantile(z, [0.25, 0.75], axis=0)
        robust = np.where(high > low, (high - low) / 1.34, np.inf)
        spread = np.minimum(z.std(axis=0, ddof=1), robust)
        return {"points": z, "bandwidth": 0.9 * spread * len(z) ** -0.2}

    def _score(self, z: Matrix) -> Matrix:
        points, bandwidth = self.fitted["points"], self.fitted["bandwidth"]
        total = np.zeros(len(z))
        step = max(1, CHUNK_ELEMENTS // len(points))
        for j, h in enumerate(bandwidth):
            constant = math.log(len(points) * h * math.sqrt(2 * math.pi))
            for start in range(0, len(z), step):
                rows = slice(start, start + step)
                squared = ((z[rows, j, None] - points[None, :, j]) / h) ** 2
                total[rows] += constant - logsumexp(-squared / 2, axis=1)
        return total
