"""Weights of the levels that best show a foreign patch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


class PatchWeights(StandardisedHead):
    """A weighted sum of z-scores that tells images from the same images with a foreign patch.

    With Σ the covariance of the z-scores and δ by how much patches raise them on average,

        w = argmin wᵀ(Σ + I)w − 2δᵀw over w ≥ 0

    which without the bound is the direction (Σ + I)⁻¹δ in which the patches stand out most from the
    spread of the validation images. The identity, as if each z-score had as much variance again of
    its own, keeps few images from making much of small differences (Friedman 1989, regularized
    discriminant analysis). Where patches raise nothing, weights are equal. They sum to the number
    of columns, as those of `ZScore` do.

    Args:
        patched_features: of the patched validation images; not needed to load a state.
    """

    constant = "refuse"

    def __init__(self, patched_features: pd.DataFrame | None = None) -> None:
        self.patched_features = patched_features

    def _fit(self, z: Matrix) -> State:
        if self.patched_features is None:
            raise ValueError("PatchWeights is fitted with patched features, found none")
        raised = self.standardise(self.patched_features).mean(axis=0) - z.mean(axis=0)
        root = np.linalg.cholesky(np.atleast_2d(np.cov(z, rowvar=False)) + np.eye(z.shape[1]))
        weights, _ = nnls(root.T, np.linalg.solve(root, raised), maxiter=100 * len(root))
        if not weights.any():
            weights = np.ones(z.shape[1])
        num_columns = len(set(self.fitted["columns"]))
        return {"weights": weights * num_columns / weights.sum()}

    def _score(self, z: Matrix) -> Matrix:
        return (z * self.fitted["weights"]).sum(axis=1)
