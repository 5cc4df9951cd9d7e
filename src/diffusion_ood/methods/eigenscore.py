"""The largest eigenvalue of the posterior covariance of an image given its noisy self.

With x̂_0 as a function of x̄ = x_t / √ᾱ, the covariance is σ² ∂x̂_0 / ∂x̄ = σ² (I − √(1−ᾱ) J),
σ² = (1−ᾱ)/ᾱ and J = ∂ε̂ / ∂x_t (EigenScore, ICLR 2026, arXiv 2510.07206). Published is the sum of
its three largest eigenvalues over twenty draws of noise by up to fifty subspace iterations; one
eigenvalue and one draw are as good in its own ablation. The power iteration starts at the image's
Rademacher vector, whose two calls it shares with `score_geometry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import nearest_level
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import (
    STEP,
    Answers,
    Point,
    PointwiseMethod,
    at_level,
    probe_of,
)
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class EigenScore(PointwiseMethod):
    """The largest eigenvalue, a row for each level.

    Args:
        log_snrs: of the levels, as those of images in [−1, 1]; the ends of the five published ones.
        iterations: of the power method, two network calls each.
        seed: of the noise and of the vector that the iteration starts from.
    """

    name = "eigenscore"
    directed = False
    columns = ("eigenvalue",)

    log_snrs: Sequence[float] = (2.15, -0.43)
    iterations: int = 8
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> EigenScore:
        """With the seed that `reconstruct.py` is asked for."""
        return cls(seed=options.seed)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level."""
        schedule, limits = diffusion.schedule, diffusion.codec.limits
        levels = {nearest_level(schedule, limits, wanted) for wanted in self.log_snrs}
        return [(t, 0) for t in sorted(levels)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, the iterations and the seed."""
        levels = [t for t, _ in self.draws(diffusion)]
        return {"levels": levels, "iterations": self.iterations, "seed": self.seed}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """Both ends of the first difference at every level."""
        levels = [t for t, _ in self.draws(diffusion)]
        return [Point(t, probe=probe, exact=True) for t in levels for probe in (-1, 1)]

    def further_calls(self, diffusion: Diffusion) -> int:
        """Two for each further iteration at every level."""
        return 2 * (self.iterations - 1) * len(self.draws(diffusion))

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """The eigenvalues, `(n, levels, 1)`."""
        found = [
            self._largest(t, batch, evaluator, answers) for t, _ in self.draws(evaluator.diffusion)
        ]
        return torch.stack(found, 1)[:, :, None]

    def _largest(self, t: int, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """σ² of each image (n,) times the largest eigenvalue of I − √(1−ᾱ) J."""
        below, above = (answers[Point(t, probe=probe, exact=True)] for probe in (-1, 1))
        x_t = (below.x_t + above.x_t) / 2
        vector = probe_of(batch, x_t, self.seed, Point(t))  # of length √D, as all that follow
        signal, noise = at_level(evaluator.diffusion, t, x_t)
        moved = vector - noise * (above.eps - below.eps) / (2 * STEP)
        times = torch.full((2 * len(batch),), t)
        for _ in range(self.iterations - 1):
            vector = moved / moved.square().flatten(1).mean(1).sqrt().view(
                -1, *[1] * (x_t.ndim - 1)
            )
            ends = torch.cat([x_t - STEP * vector, x_t + STEP * vector])
            down, up = evaluator.observe(ends, times, exact=True)[0].chunk(2)
            moved = vector - noise * (up - down) / (2 * STEP)
        length = (moved.square().flatten(1).mean(1) / vector.square().flatten(1).mean(1)).sqrt()
        return (noise / signal).flatten().square() * length
