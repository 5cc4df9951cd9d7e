"""Gaussians with a shrunken covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State

if TYPE_CHECKING:
    from typing_extensions import Self


class LedoitWolfGaussian(StandardisedHead):
    """The squared Mahalanobis distance zᵀ Σ⁻¹ z of standardised features.

    Σ is their covariance, shrunken towards a multiple of the identity (Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004, equation 14).
    """

    def _fit(self, z: Matrix) -> State:
        from sklearn.covariance import LedoitWolf  # detection alone needs no scikit-learn

        return {"precision": LedoitWolf(assume_centered=True).fit(z).precision_}

    def _score(self, z: Matrix) -> Matrix:
        return np.einsum("ni,ij,nj->n", z, self.fitted["precision"], z, optimize=True)


class LogGaussian(LedoitWolfGaussian):
    """The logarithm of that distance, of the logarithms of features that are always positive.

    Norms, errors and distances are more nearly Gaussian by their logarithms, and so is the
    distance. A later value below a tenth of the least fitted one counts as that.
    """

    def fit(self, features: pd.DataFrame) -> Self:
        """See `Head`."""
        values = features.to_numpy(dtype=np.float64)
        least = np.where((values > 0).all(axis=0), values.min(axis=0) / 10, np.nan)
        super().fit(_logs(features, least))
        self.fitted["least"] = least
        return self

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """See `Head`."""
        self.values(features)  # refuses other features than those that were fitted
        squared = super().score(_logs(features, self.fitted["least"]))
        return np.log(squared.clip(lower=1e-12)) / 2


def _logs(features: pd.DataFrame, least: Matrix) -> pd.DataFrame:
    """The features, by their logarithms where there is a least value."""
    values = features.to_numpy(dtype=np.float64)
    positive = np.isfinite(least)
    logs = np.log(np.maximum(values, least), where=positive, out=values.copy())
    return pd.DataFrame(logs, index=features.index, columns=features.columns)
