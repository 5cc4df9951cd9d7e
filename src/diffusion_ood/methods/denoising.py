"""How far an image is from what one look at its noisy self makes of it.

x̂_0 = (x_t − √(1−ᾱ) ε̂) / √ᾱ (Ho et al. 2020, equation 15) at levels that are even in log-SNR: the
distances of `reconstruction` with a `budget`, from calls that are shared with other methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import Answers, EvenMethod, Point
from diffusion_ood.methods.scores.base import Distance, PairScore
from diffusion_ood.methods.scores.chosen import asked_scores, scores_of
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class Denoising(EvenMethod):
    """MSE and LPIPS of x̂_0, a row for each level and repeat.

    Args:
        num_levels, repeats, seed: see `EvenMethod`.
        scores: what is measured of x̂_0 and the image, by default MSE and LPIPS.
    """

    name = "denoising"

    scores: Sequence[PairScore] = field(default_factory=lambda: scores_of(("mse", "perceptual")))

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Denoising:
        """As `reconstruct.py` is asked for it; without AlexNet's weights, no LPIPS."""
        return cls(
            num_levels=options.num_levels,
            repeats=options.repeats or 1,
            scores=asked_scores(options),
            seed=options.seed,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all scores."""
        return tuple(column for score in self.scores for column in score.columns)

    @property
    def decodes(self) -> bool:
        """Whether x̂_0 is decoded."""
        return any(score.form != "latent" for score in self.scores)

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The noisy image at every level."""
        return [Point(t, repeat) for t, repeat in self.draws(diffusion)]

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, draws, columns)`."""
        points = self.points(evaluator.diffusion)
        distance = Distance(self.scores, batch.forms(evaluator.diffusion))
        return distance.of_each([answers[point].x_0 for point in points])
