"""Kernel densities, one a feature."""

from __future__ import annotations

import numpy as np
from scipy.stats import gaussian_kde

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


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

    def logs(self, z: Matrix) -> Matrix:
        """−log density of each feature, `(images, features)`."""
        points = self.fitted["points"]
        relative = self.fitted["bandwidth"] / points.std(axis=0, ddof=1)
        densities = map(gaussian_kde, points.T, relative)
        pairs = zip(densities, z.T, strict=True)
        return -np.stack([density.logpdf(x) for density, x in pairs], axis=1)

    def _score(self, z: Matrix) -> Matrix:
        return self.logs(z).sum(axis=1)
