"""What principal components leave of an image's features."""

from __future__ import annotations

import numpy as np

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


class PCAResidual(StandardisedHead):
    """The norm of standardised features after their projection on the principal components.

    As many components are taken as explain `explained` of the variance, but never all of them.

    Args:
        explained: a share of the variance.
    """

    def __init__(self, explained: float = 0.95) -> None:
        self.explained = explained

    def _fit(self, z: Matrix) -> State:
        _, singular, components = np.linalg.svd(z, full_matrices=False)
        share = np.cumsum(singular**2) / (singular**2).sum()
        num = int(np.searchsorted(share, self.explained)) + 1
        return {"components": components[: min(num, z.shape[1] - 1)]}

    def _score(self, z: Matrix) -> Matrix:
        components = self.fitted["components"]
        return np.linalg.norm(z - z @ components.T @ components, axis=1)
