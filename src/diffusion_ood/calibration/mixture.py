"""A mixture of Gaussians."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State

FITTED = ("weights", "means", "precisions_cholesky")


class Mixture(StandardisedHead):
    """−log density of standardised features under Gaussians with full covariances.

    Of one to `max_components` Gaussians the number with the least Bayesian information criterion
    is taken (Schwarz 1978). Each has at least as many images as features on average, plus one.

    Args:
        max_components: the most Gaussians.
    """

    def __init__(self, max_components: int = 4) -> None:
        self.max_components = max_components

    def _fit(self, z: Matrix) -> State:
        most = min(self.max_components, max(1, len(z) // (z.shape[1] + 1)))
        fits = [
            GaussianMixture(k, covariance_type="full", random_state=0).fit(z)
            for k in range(1, most + 1)
        ]
        best = min(fits, key=lambda fit: fit.bic(z))
        return {name: getattr(best, f"{name}_") for name in FITTED}

    def _score(self, z: Matrix) -> Matrix:
        """−log Σ_k w_k N(z; m_k, (L_k L_kᵀ)⁻¹)."""
        terms = []
        for weight, mean, root in zip(*(self.fitted[name] for name in FITTED), strict=True):
            log_det = np.log(np.diag(root)).sum() - z.shape[1] * math.log(2 * math.pi) / 2
            squared = (((z - mean) @ root) ** 2).sum(axis=1)
            terms.append(math.log(weight) + log_det - squared / 2)
        return -logsumexp(terms, axis=0)
