"""Mean squared error."""

from __future__ import annotations

from torch import Tensor


class MeanSquaredError:
    """Mean over channels and pixels of (image − reconstruction)², images in [0, 1]."""

    name = "mse"

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """The images `(B, C, *S)` themselves."""
        return (images,)

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of reconstructions `(B, C, *S)`."""
        return (reference[0] - reconstructions).square().flatten(1).mean(1)
