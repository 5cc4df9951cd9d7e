"""A score of one's own: how much sharper or smoother a reconstruction is than its image.

    python examples/gradient_score.py

To use it: move the class to `methods/scores/` and add a line to `SCORES`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.methods.scores.mse import MeanSquaredError


class GradientDifference(PairScore):
    """Mean over pixels and directions of the squared difference of neighbours' differences."""

    name = "gradient"

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """The differences of neighbours along each axis of images `(B, C, *S)`."""
        return tuple(images.diff(dim=axis) for axis in range(2, images.ndim))

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of reconstructions `(B, C, *S)`."""
        pairs = zip(reference, self.reference(reconstructions), strict=True)
        errors = [(expected - found).square().flatten(1).mean(1) for expected, found in pairs]
        return torch.stack(errors).mean(0)


def main() -> None:
    """Score two changes of the same mean square: of brightness and of sharpness."""
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    brighter = images + (blurred - images).square().mean().sqrt()
    scores: list[PairScore] = [MeanSquaredError(), GradientDifference()]
    print(f"{'':10}" + "".join(f"{score.name:>10}" for score in scores))
    for name, changed in (("brighter", brighter), ("blurred", blurred)):
        values = [score(score.reference(images), changed).mean().item() for score in scores]
        print(f"{name:10}" + "".join(f"{value:10.4f}" for value in values))


if __name__ == "__main__":
    main()
