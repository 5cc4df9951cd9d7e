"""The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017).

With the features of the Inception network of that paper it is called FID. With other features it is
another number, and gets another name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over n feature vectors of d numbers, in float64.

    Args:
        count: n.
        total: Σ f, shape (d,).
        products: Σ f fᵀ, shape (d, d).
    """

    count: int
    total: Matrix
    products: Matrix

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> Moments:
        """The moments of features `(n, d)`; n may be 0."""
        f = features.astype(np.float64)
        return cls(len(f), f.sum(0), f.T @ f)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        return Moments(
            self.count + other.count, self.total + other.total, self.products + other.products
        )

    @property
    def mean(self) -> Matrix:
        """Of the features, shape (d,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Matrix:
        """Of the features, with n − 1 in the denominator, shape (d, d)."""
        assert self.count > 1, "a covariance needs two feature vectors"
        centred = self.products - np.outer(self.total, self.mean)
        return centred / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """`‖μ_a − μ_b‖² + tr(C_a + C_b − 2·(C_a C_b)^½)` (Heusel et al. 2017, equation 6).

    The root's trace is that of (C_a^½ C_b C_a^½)^½, which is symmetric: no complex numbers occur,
    and covariances of rank below d need nothing added to them.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    of_product = np.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.trace(a.covariance) + np.trace(b.covariance)
    distance = np.square(a.mean - b.mean).sum() + trace - 2 * np.sqrt(of_product.clip(min=0)).sum()
    return float(max(distance, 0.0))
