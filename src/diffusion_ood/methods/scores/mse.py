"""Mean squared error."""

from __future__ import annotations

from torch import Tensor

from diffusion_ood.methods.scores.base import PairScore


class MeanSquaredError(PairScore):
    """Mean over channels and pixels of (image − reconstruction)², images in [0, 1]."""

    name = "mse"

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of reconstructions `(B, C, *S)`."""
        return (reference[0] - reconstructions).square().flatten(1).mean(1)
