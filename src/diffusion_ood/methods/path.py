"""The path that leads an image up to noise, and how it bends (DiffPath and UFCOD).

The deterministic way up from the clean image x_0, with ε̂_k at n levels on it, where predictions
x̂_0 are clipped to the range of images, is summed up by six numbers (Heng, Thiery and Soh, "OOD
detection with a single unconditional diffusion model", NeurIPS 2024, section 4.2):

    Σ ε̂_k,  Σ ε̂_k²,  Σ ε̂_k³,  Σ ∂_k,  Σ ∂_k²,  Σ ∂_k³,    ∂_k = n (ε̂_{k+1} − ε̂_k),

sums over pixels and levels. √Σ ∂² is DiffPath in one dimension; UFCOD takes Σ ε̂² and Σ ∂²
(arXiv 2605.03410).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import nearest_level
from diffusion_ood.diffusion.samplers.ddim import SAMPLER
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import Answers, Point, PointwiseMethod
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.evaluator import Evaluator

LOG_SNRS = (11.5, 3.55, 2.18, 1.3, 0.61, -0.03, -0.66, -1.37, -2.27, -3.71)
"""Of the published levels, ten even times of a cosine schedule."""


@dataclass(kw_only=True, eq=False)
class Path(PointwiseMethod):
    """Six sums over the path up, a row an image at the path's first level.

    Args:
        log_snrs: of the levels, as those of images in [−1, 1]; the lowest noise stands for none.
        clip: whether predictions x̂_0 are clipped to the range of images.
    """

    name = "path"
    directed = False
    columns = ("eps_1", "eps_2", "eps_3", "change_1", "change_2", "change_3")

    log_snrs: Sequence[float] = LOG_SNRS
    clip: bool = True
    seed: int = 2  # without effect: there is no noise

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Path:
        """As published."""
        return cls(seed=options.seed)

    def levels(self, diffusion: Diffusion) -> tuple[int, ...]:
        """The levels t, rising, at which ε̂ is asked for."""
        schedule, limits = diffusion.schedule, diffusion.codec.limits
        return tuple(sorted({nearest_level(schedule, limits, wanted) for wanted in self.log_snrs}))

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """One."""
        return [(self.levels(diffusion)[0], 0)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, and whether predictions are clipped."""
        return {"levels": list(self.levels(diffusion)), "clip": self.clip}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """None: each call follows from the one before."""
        return ()

    def further_calls(self, diffusion: Diffusion) -> int:
        """One a level."""
        return len(self.levels(diffusion))

    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """The sums, `(n, 1, columns)`."""
        x_0 = batch.forms(evaluator.diffusion).x
        eps = torch.stack([found.flatten(1) for found in self.run(x_0, evaluator)])
        change = eps.diff(dim=0) * len(eps)
        sums = [part.pow(k).sum((0, 2)) for part in (eps, change) for k in (1, 2, 3)]
        return torch.stack(sums, 1)[:, None]

    def run(self, x_0: Tensor, evaluator: Evaluator) -> list[Tensor]:
        """ε̂ `(n, c, *s)` at every level of the path of images x_0."""
        levels = self.levels(evaluator.diffusion)
        last = levels[-1] + (
            1 if levels[-1] < evaluator.diffusion.schedule.num_timesteps - 1 else -1
        )
        paths = (
            Trajectory(row, (*levels, last), partial(x_0.__getitem__, row))
            for row in range(len(x_0))
        )
        found = {t: torch.empty_like(x_0, dtype=torch.float32) for t in levels}
        for step in evaluator.run(paths, SAMPLER, clip=self.clip):
            for row, t, eps in zip(step.rows, step.t.tolist(), step.eps, strict=True):
                found[t][row] = eps
        return [found[t] for t in levels]
