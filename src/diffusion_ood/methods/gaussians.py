"""Gaussians of standardised features, by which an image's are far or near."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.covariance import ledoit_wolf_shrinkage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

RANK = 512
"""Directions that are kept at most: four blocks of `tiny` take 4 MB, of `big` 45, dense ones 19 and
2,000. The other directions of `tiny` have the variance that shrinking leaves."""

Matrix: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Standard:
    """Features that are standardised, each by itself.

    Attributes:
        mean, std: of each feature, (D,).
    """

    mean: Matrix
    std: Matrix

    @classmethod
    def fit(cls, features: Matrix) -> Self:
        """Fit to (N, D) features."""
        return cls(features.mean(0), features.std(0) + 1e-6)

    def standardised(self, features: Matrix) -> Floats:
        """In float64, or an image's distance would depend on how many others there are."""
        z: Floats = (features.astype(np.float64) - self.mean) / self.std
        return z

    def mean_square(self, features: Matrix) -> Floats:
        """The mean square of standardised features (N,), each by itself."""
        return np.square(self.standardised(features)).mean(1)

    def distance(self, features: Matrix) -> Floats:
        """Logarithm of the Mahalanobis distance (N,)."""
        return np.log(self._square(self.standardised(features)).clip(min=1e-12)) / 2

    def _square(self, z: Floats) -> Floats:
        return np.square(z).sum(1)

    def state_dict(self) -> dict[str, Any]:
        """The attributes by name, as `of_state` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Gaussian(Standard):
    """Features whose covariance is known in some directions, and the same in all others.

    The covariance of standardised features is shrunken towards the identity (Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004). Of its directions
    those of most variance are kept, as in probabilistic principal component analysis (Tipping and
    Bishop 1999, equations 7 and 8).

    Attributes:
        basis: the directions, orthonormal to the digits of float16, (D, K).
        variances: along them, (K,).
        rest: the variance in each direction across them, ().
    """

    basis: NDArray[np.float16]
    variances: Matrix
    rest: Matrix

    @classmethod
    def fit(cls, features: Matrix) -> Self:
        """Fit to (N, D) features."""
        standard = Standard.fit(features)
        z = standard.standardised(features)
        number, size = z.shape
        wide = number < size  # then products of images have the same variances, and are fewer
        products = (z @ z.T if wide else z.T @ z) / number
        last = len(products) - 1
        found, basis = eigh(products, subset_by_index=(max(0, last + 1 - RANK), last))
        kept = found > 1e-9 * found[-1]  # less is rounding
        variances, basis = found[kept], basis[:, kept]
        if wide:
            basis = z.T @ basis
            basis /= np.linalg.norm(basis, axis=0)
        total, others = np.square(z).sum() / number, size - len(variances)
        rest = max(0.0, total - variances.sum()) / others if others else total / size
        shrinkage = ledoit_wolf_shrinkage(z, assume_centered=True)
        floor = shrinkage * total / size
        variances, rest = (floor + (1 - shrinkage) * part for part in (variances, rest))
        return cls(
            standard.mean,
            standard.std,
            basis.astype(np.float16),
            variances.astype(np.float32),
            np.array(rest, np.float32),
        )

    @cached_property
    def _basis(self) -> Floats:
        return self.basis.astype(np.float64)

    def _square(self, z: Floats) -> Floats:
        along = z @ self._basis
        across = z - along @ self._basis.T
        return (np.square(along) / self.variances).sum(1) + np.square(across).sum(1) / self.rest


@dataclass(frozen=True)
class Whitened(Standard):
    """Features whose covariance is known in all directions, as older files have them.

    Attributes:
        whitening: takes standardised features to uncorrelated ones of variance 1, (D, D).
    """

    whitening: Matrix

    def _square(self, z: Floats) -> Floats:
        return np.square(z @ self.whitening).sum(1)


def of_state(state: Mapping[str, Any]) -> Standard:
    """What has this `state_dict`."""
    kinds = (Standard, Gaussian, Whitened)
    by_parts = {frozenset(field.name for field in fields(kind)): kind for kind in kinds}
    return by_parts[frozenset(state)](**state)
