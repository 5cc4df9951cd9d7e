"""Distances to the nearest in-distribution images."""

from __future__ import annotations

from scipy.spatial import KDTree

from diffusion_ood.calibration.base import Matrix, StandardisedHead, State


class NearestNeighbours(StandardisedHead):
    """The mean Euclidean distance to the k nearest images, in standardised features.

    Args:
        k: the number of neighbours, or all images where they are fewer.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = k

    def _fit(self, z: Matrix) -> State:
        return {"points": z, "k": min(self.k, len(z))}

    def _score(self, z: Matrix) -> Matrix:
        points = self.fitted["points"]
        nearest = list(range(1, self.fitted["k"] + 1))
        distances, _ = KDTree(points).query(z, k=nearest)
        return distances.mean(axis=1)
