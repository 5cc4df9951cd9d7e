"""A Gaussian with a shrunken covariance."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import LedoitWolf

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


class LedoitWolfGaussian(StandardisedHead):
    """The squared Mahalanobis distance zᵀ Σ⁻¹ z of standardised features.

    Σ is their covariance, shrunken towards a multiple of the identity (Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004, equation 14).
    """

    def _fit(self, z: Matrix) -> State:
        return {"precision": LedoitWolf(assume_centered=True).fit(z).precision_}

    def _score(self, z: Matrix) -> Matrix:
        return np.einsum("ni,ij,nj->n", z, self.fitted["precision"], z, optimize=True)
