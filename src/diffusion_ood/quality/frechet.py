"""The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017).

pytorch-fid's own function asks SciPy's matrix root for an argument that SciPy 1.18 no longer takes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def moments(features: NDArray[np.floating]) -> Matrix:
    """Σ (1, f)ᵀ(1, f) of features f (n, d): (d + 1, d + 1); the moments of parts add up.

    Row 0 holds n and Σ f, and the rest Σ fᵀf.
    """
    rows = np.insert(features.astype(np.float64), 0, 1.0, axis=1)
    return rows.T @ rows


def mean_and_covariance(total: Matrix) -> tuple[Matrix, Matrix]:
    """Of n ≥ 2 feature vectors with these moments, shapes (d,) and (d, d); n − 1 divides."""
    n, mean = total[0, 0], total[0, 1:] / total[0, 0]
    return mean, (total[1:, 1:] - n * np.outer(mean, mean)) / (n - 1)


def frechet_distance(a: Matrix, b: Matrix) -> float:
    """`‖μ_a − μ_b‖² + tr(C_a + C_b − 2·(C_a C_b)^½)` of moments (equation 6).

    The root's trace is that of (C_a^½ C_b C_a^½)^½, which is symmetric: no complex numbers occur,
    and covariances of rank below d need nothing added to them.
    """
    (mean_a, cov_a), (mean_b, cov_b) = mean_and_covariance(a), mean_and_covariance(b)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    distance = np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b) - 2 * trace_of_root
    return float(max(distance, 0.0))
