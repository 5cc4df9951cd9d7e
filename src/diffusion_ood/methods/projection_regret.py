"""How much more an image moves when it is projected than its own projection does.

With P_t(x) an estimate of x from its noisy self at level t and a distance d (Choi et al.,
"Projection regret: reducing background bias for novelty detection via diffusion models", NeurIPS
2023, equation 4),

    S(x) = mean_j d(x, P_b(x)) − mean_ij d(y_i, P_b(y_i)),    y_i = P_a(x),

which takes away what the background alone costs. Published is P by a consistency model; here it is
x̂_0 of a single look (Ho et al. 2020, equation 15), and x and y_i get the same noise, which takes
away its part of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import nearest_level
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.forms import Forms
from diffusion_ood.methods.pointwise import (
    Answers,
    Point,
    PointwiseMethod,
    noise_of,
    predicted,
)
from diffusion_ood.methods.scores.base import Distance, PairScore
from diffusion_ood.methods.scores.chosen import asked_scores, scores_of
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class ProjectionRegret(PointwiseMethod):
    """The regret by each score, a row an image at the level b.

    Args:
        log_snrs: of the levels a and b, as those of images in [−1, 1].
        draws_a, draws_b: of noise at each.
        scores: the distances, by default MSE and LPIPS.
        seed: of the noise.
    """

    name = "projection_regret"

    log_snrs: tuple[float, float] = (0.0, 2.0)
    draws_a: int = 2
    draws_b: int = 2
    scores: Sequence[PairScore] = field(default_factory=lambda: scores_of(("mse", "perceptual")))
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> ProjectionRegret:
        """With the scores that `reconstruct.py` is asked for."""
        return cls(scores=asked_scores(options), seed=options.seed)

    @property
    def columns(self) -> tuple[str, ...]:
        """One a score."""
        return tuple(f"regret_{name}" for score in self.scores for name in score.columns)

    def levels(self, diffusion: Diffusion) -> tuple[int, int]:
        """The levels a and b."""
        schedule, limits = diffusion.schedule, diffusion.codec.limits
        a, b = (nearest_level(schedule, limits, wanted) for wanted in self.log_snrs)
        return a, b

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """One."""
        return [(self.levels(diffusion)[1], 0)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, the draws of noise, the columns and the seed."""
        return {
            "levels": list(self.levels(diffusion)),
            "noise": [self.draws_a, self.draws_b],
            "columns": list(self.columns),
            "seed": self.seed,
        }

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The image with noise at both levels."""
        a, b = self.levels(diffusion)
        return [
            *(Point(a, repeat) for repeat in range(self.draws_a)),
            *(Point(b, repeat) for repeat in range(self.draws_b)),
        ]

    def further_calls(self, diffusion: Diffusion) -> int:
        """The projections of projections."""
        return self.draws_a * self.draws_b

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """The regrets, `(n, 1, columns)`."""
        diffusion = evaluator.diffusion
        a, b = self.levels(diffusion)
        own = Distance(self.scores, batch.forms(diffusion))
        moved = torch.stack([own(answers[Point(b, k)].x_0) for k in range(self.draws_b)]).mean(0)
        regrets = []
        for projected in (answers[Point(a, k)].x_0 for k in range(self.draws_a)):
            of_y, y = Distance(self.scores, projected), projected.x
            for k in range(self.draws_b):
                t = torch.full((len(batch),), b)
                noisy = diffusion.schedule.add_noise(
                    y, noise_of(batch, y, self.seed, Point(b, k)), t
                )
                again = predicted(diffusion, b, noisy, evaluator.eps(noisy, t))
                regrets.append(of_y(Forms(diffusion.codec, again)))
        return (moved - torch.stack(regrets).mean(0))[:, None]
