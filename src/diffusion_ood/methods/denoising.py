"""How far an image is from what one look at its noisy self makes of it.

x̂_0 = (x_t − √(1−ᾱ) ε̂) / √ᾱ (Ho et al. 2020, equation 15) at levels that are even in log-SNR: the
distances of `reconstruction` with a `budget`, from calls that are shared with other methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import even_levels
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import Answer, Answers, Point, PointwiseMethod
from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.methods.scores.chosen import scores_of, without_lpips
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class Denoising(PointwiseMethod):
    """MSE and LPIPS of x̂_0, a row for each level and repeat.

    Args:
        num_levels: noise levels, even in log-SNR.
        repeats: draws of noise at each level.
        scores: what is measured of x̂_0 and the image, by default MSE and LPIPS.
        seed: of the noise.
    """

    name = "denoising"

    num_levels: int = 10
    repeats: int = 1
    scores: Sequence[PairScore] = field(default_factory=lambda: scores_of(("mse", "perceptual")))
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Denoising:
        """As `reconstruct.py` is asked for it; without AlexNet's weights, no LPIPS."""
        return cls(
            num_levels=options.num_levels,
            repeats=options.repeats or 1,
            scores=scores_of(without_lpips(options), options.lpips_weights),
            seed=options.seed,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all scores."""
        return tuple(column for score in self.scores for column in score.columns)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level and repeat."""
        levels = even_levels(diffusion.schedule, diffusion.codec.limits, self.num_levels)
        return [(t, k) for t in levels for k in range(self.repeats)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, the scores and the seed."""
        draws = [list(draw) for draw in self.draws(diffusion)]
        return {"draws": draws, "scores": list(self.columns), "seed": self.seed}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The noisy image at every level."""
        return [Point(t, repeat) for t, repeat in self.draws(diffusion)]

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, draws, columns)`."""
        references = [score.reference(batch.images) for score in self.scores]
        rows = []
        for t, repeat in self.draws(evaluator.diffusion):
            found = predicted(evaluator.diffusion, t, answers[Point(t, repeat)])
            images = evaluator.diffusion.codec.decode(found).clamp(0, 1)
            pairs = zip(self.scores, references, strict=True)
            values = [
                score(reference, images).reshape(len(batch), -1) for score, reference in pairs
            ]
            rows.append(torch.cat(values, 1))
        return torch.stack(rows, 1)


def predicted(diffusion: Diffusion, t: int, answer: Answer) -> Tensor:
    """x̂_0 of an answer at level t, `(n, c, *s)`."""
    signal, noise = diffusion.schedule.alpha_sigma(torch.tensor([t]), answer.eps.ndim)
    return (answer.x_t - noise.to(answer.eps) * answer.eps) / signal.to(answer.eps)
