"""How well the model fills in one half of an image from the other (LMD).

A checkerboard of blocks is taken out, and filled in from noise while the rest is given; then the
other half. The distance between the image and what was made of it is the score (Liu et al.,
"Unsupervised out-of-distribution detection with diffusion inpainting", ICML 2023). Published are
1,000 steps, ten attempts and the median of LPIPS; here they are ten steps of DDIM with clipped
predictions x̂_0, and two attempts whose masks complete each other.
Of a latent model it is blocks of the latents that are taken out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import even_levels
from diffusion_ood.diffusion.samplers.base import ddim_step
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.forms import Forms
from diffusion_ood.methods.pointwise import Answers, Point, PointwiseMethod, noise_of
from diffusion_ood.methods.scores.base import Distance, PairScore
from diffusion_ood.methods.scores.chosen import asked_scores, scores_of
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator

BLOCKS = 8  # along each side


@dataclass(kw_only=True, eq=False)
class Inpainting(PointwiseMethod):
    """The median distance of the attempts by each score, a row an image.

    Args:
        steps: network calls of an attempt.
        attempts: each takes out what the one before was given.
        scores: the distances, by default MSE and LPIPS.
        seed: of the noise.
    """

    name = "inpainting"

    steps: int = 10
    attempts: int = 2
    scores: Sequence[PairScore] = field(default_factory=lambda: scores_of(("mse", "perceptual")))
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Inpainting:
        """With the scores that `reconstruct.py` is asked for."""
        return cls(scores=asked_scores(options), seed=options.seed)

    @property
    def columns(self) -> tuple[str, ...]:
        """One a score."""
        return tuple(f"inpainted_{name}" for score in self.scores for name in score.columns)

    def levels(self, diffusion: Diffusion) -> tuple[int, ...]:
        """The levels t, rising."""
        return even_levels(diffusion.schedule, diffusion.codec.limits, self.steps)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """One."""
        return [(self.levels(diffusion)[-1], 0)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, the attempts, the columns and the seed."""
        return {
            "levels": list(self.levels(diffusion)),
            "attempts": self.attempts,
            "columns": list(self.columns),
            "seed": self.seed,
        }

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """None: each call follows from the one before."""
        return ()

    def further_calls(self, diffusion: Diffusion) -> int:
        """One a step of each attempt."""
        return self.steps * self.attempts

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """The distances, `(n, 1, columns)`."""
        codec = evaluator.diffusion.codec
        distance = Distance(self.scores, batch.forms(evaluator.diffusion))
        found = [distance(Forms(codec, x)) for x in self.fill_in(batch, evaluator)]
        return torch.stack(found).median(0).values[:, None]

    def fill_in(self, batch: ImageBatch, evaluator: Evaluator) -> list[Tensor]:
        """What each attempt makes of the images, `(n, c, *s)`; what was given is unchanged."""
        diffusion = evaluator.diffusion
        x_0 = batch.forms(diffusion).x
        board = checkerboard(x_0.shape[2:]).to(x_0.device)
        given = torch.cat(
            [board ^ bool(k % 2) for k in range(self.attempts) for _ in range(len(x_0))]
        )
        known = x_0.repeat(self.attempts, *[1] * (x_0.ndim - 1))
        levels = [*reversed(self.levels(diffusion)), CLEAN]
        noise = torch.cat(
            [noise_of(batch, x_0, self.seed, Point(levels[0], k)) for k in range(self.attempts)]
        )
        x = noise
        for t, s in itertools.pairwise(levels):
            now, then = torch.full((len(x),), t), torch.full((len(x),), s)
            x = torch.where(given, diffusion.schedule.add_noise(known, noise, now), x)
            eps = evaluator.eps(x, now, clip=True)
            x = ddim_step(diffusion.schedule, x, eps, now, then)
        return list(torch.where(given, known, x).chunk(self.attempts))


def checkerboard(sides: Sequence[int]) -> Tensor:
    """Which pixels belong to the black blocks, `(1, 1, *sides)`: as equal as the sides allow."""
    parity = torch.zeros(1, dtype=torch.long)
    for side in sides:
        number = min(BLOCKS, side)
        parity = parity[..., None] + torch.arange(side) * number // side
    return (parity[0] % 2 == 0)[None, None]
