"""Whether the predicted noise turns with the image (GEPC, ICML 2026, arXiv 2602.00191).

For g in G, both mirrorings and the turn by 180°, and F_g = g⁻¹ ε̂(g x_t, t), the residual is
r_g = F_g − ε̂(x_t, t). Columns are means over G:

    residual        mean r_g² / mean ε̂²
    residual_top    the same over the 30 % of pixels where r_g² and ε̂² are largest
    residual_image  as the first, of x̂_0
    misalignment    1 − cosine of F_g and ε̂

For a set that is the in-distribution one turned by a g of G the terms of g are those of the
in-distribution images: there the method sees less. Of a latent model it is the latents that turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_ood.diffusion.levels import even_levels
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import (
    Answers,
    Point,
    PointwiseMethod,
    predicted,
)
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import NUM_LEVELS
from diffusion_ood.trajectories.evaluator import Evaluator

TOP_SHARE = 0.3


@dataclass(kw_only=True, eq=False)
class Equivariance(PointwiseMethod):
    """How far ε̂ is from turning with the image, a row for each level.

    Args:
        num_levels: the highest of `NUM_LEVELS` levels that are even in log-SNR.
        seed: of the noise.
    """

    name = "equivariance"
    directed = False
    columns = ("residual", "residual_top", "residual_image", "misalignment")

    num_levels: int = 2
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Equivariance:
        """With the seed that `reconstruct.py` is asked for."""
        return cls(seed=options.seed)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level."""
        levels = even_levels(diffusion.schedule, diffusion.codec.limits, NUM_LEVELS)
        return [(t, 0) for t in levels[: self.num_levels]]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels and the seed."""
        return {"levels": [t for t, _ in self.draws(diffusion)], "seed": self.seed}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The noisy image at every level as it is and turned."""
        turned = ((), *_flips(diffusion))
        return [Point(t, flip=flip) for t, _ in self.draws(diffusion) for flip in turned]

    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, levels, columns)`."""
        diffusion = evaluator.diffusion
        rows = []
        for t, _ in self.draws(diffusion):
            answer = answers[Point(t)]
            x_t, eps, image = answer.x_t, answer.eps, answer.x_0.x
            terms = []
            for flip in _flips(diffusion):
                found = diffusion.codec.flip(answers[Point(t, flip=flip)].eps, flip)
                of_image = predicted(diffusion, t, x_t, found)
                cosine = functional.cosine_similarity(found.flatten(1), eps.flatten(1))
                columns = [_ratio(found, eps), _ratio(found, eps, TOP_SHARE)]
                columns += [_ratio(of_image, image), 1 - cosine]
                terms.append(torch.stack(columns, 1))
            rows.append(torch.stack(terms).mean(0))
        return torch.stack(rows, 1)


def _flips(diffusion: Diffusion) -> tuple[tuple[int, ...], ...]:
    """G, as axes of `(c, *s)`: both mirrorings in the plane of the last two axes, and both."""
    row, column = len(diffusion.x_shape) - 2, len(diffusion.x_shape) - 1
    return (column,), (row,), (row, column)


def _ratio(found: Tensor, expected: Tensor, share: float = 1.0) -> Tensor:
    """Mean (found − expected)² over mean expected², (n,), each of its share of largest pixels."""
    squares = [(found - expected).square().flatten(1), expected.square().flatten(1)]
    number = max(1, round(share * squares[0].shape[1]))
    above, below = (part.topk(number, dim=1).values.mean(1) for part in squares)
    return above / below.clamp(min=1e-12)
