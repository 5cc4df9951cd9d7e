"""Norms of the score and traces of its Jacobian, which many published detectors are made of.

With ε̂ at a noisy image x_t, and its Jacobian J = ∂ε̂ / ∂x_t,

    N = ‖ε̂‖²,    C = √(1−ᾱ) tr J ≈ √(1−ᾱ) vᵀ J v,    D values of an image,

v a Rademacher vector (Hutchinson 1990) and J v a central difference: for an exact model and
in-distribution images E N = E C (Fisher's identity). From them follow, as heads of the table,

    MSMA         √N at all levels, of noisy or of clean images (Mahmood et al., ICLR 2021)
    SCOPED       N / C (Lee et al., ICLR 2026)
    FLIPD        D − C + N of the image without noise (Kamkari et al., NeurIPS 2024, equation 9)
    trace of the posterior covariance    (1−ᾱ)/ᾱ (D − C)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import even_levels
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import STEP, Answers, Point, PointwiseMethod, probe_of
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class ScoreGeometry(PointwiseMethod):
    """N and C of noisy images, and of the same without noise, a row for each level and repeat.

    Args:
        num_levels: noise levels, even in log-SNR.
        repeats: draws of noise and probe at each level.
        seed: of both.
    """

    name = "score_geometry"
    columns = ("eps_sq", "trace", "clean_eps_sq", "clean_trace")

    num_levels: int = 10
    repeats: int = 1
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> ScoreGeometry:
        """As `reconstruct.py` is asked for it."""
        return cls(num_levels=options.num_levels, repeats=options.repeats or 1, seed=options.seed)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level and repeat."""
        levels = even_levels(diffusion.schedule, diffusion.codec.limits, self.num_levels)
        return [(t, k) for t in levels for k in range(self.repeats)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels and the seed."""
        return {"draws": [list(draw) for draw in self.draws(diffusion)], "seed": self.seed}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """At every level with and without noise, each with the two ends of a difference."""
        return [
            Point(t, repeat, noise=noise, probe=probe, exact=True)
            for t, repeat in self.draws(diffusion)
            for noise in (True, False)
            for probe in (0, -1, 1)
            if noise or repeat == 0 or probe  # the same image without noise is asked about once
        ]

    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, draws, columns)`."""
        rows = []
        for t, repeat in self.draws(evaluator.diffusion):
            columns = []
            for noise in (True, False):
                point = Point(t, repeat, noise=noise, exact=True)
                middle = answers[point if noise else Point(t, noise=False, exact=True)].eps
                columns += [middle.square().flatten(1).sum(1)]
                columns += [self._trace(batch, evaluator, answers, point)]
            rows.append(torch.stack(columns, 1))
        return torch.stack(rows, 1)

    def _trace(
        self, batch: ImageBatch, evaluator: Evaluator, answers: Answers, point: Point
    ) -> Tensor:
        """C of each image (n,): √(1−ᾱ) vᵀ (ε̂(x + h v) − ε̂(x − h v)) / 2h."""
        ends = [
            answers[Point(point.t, point.repeat, noise=point.noise, probe=probe, exact=True)].eps
            for probe in (1, -1)
        ]
        probe = probe_of(batch, ends[0], self.seed, point)
        _, noise = evaluator.diffusion.schedule.alpha_sigma(torch.tensor([point.t]), 1)
        along = (probe * (ends[0] - ends[1])).flatten(1).sum(1)
        return along * noise.to(along) / (2 * STEP)
