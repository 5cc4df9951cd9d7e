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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import (
    STEP,
    Answers,
    EvenMethod,
    Point,
    at_level,
    probe_of,
)
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class ScoreGeometry(EvenMethod):
    """N and C of noisy images, and of the same without noise, a row for each level and repeat.

    Args:
        num_levels, repeats, seed: see `EvenMethod`; a repeat has a probe of its own.
        clean: whether images without noise are looked at, too.
        traces: whether there are traces, of two further calls each.
    """

    name = "score_geometry"
    directed = False

    clean: bool = True
    traces: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """One or two of noisy images, and as many without noise."""
        of_one = ("eps_sq", "trace") if self.traces else ("eps_sq",)
        return of_one + tuple(f"clean_{name}" for name in of_one if self.clean)

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """At every level with and without noise, perhaps with the two ends of a difference."""
        return [
            Point(t, repeat, noise=noise, probe=probe, exact=self.traces)
            for t, repeat in self.draws(diffusion)
            for noise in self._noises
            for probe in ((0, -1, 1) if self.traces else (0,))
            if noise or repeat == 0 or probe  # the same image without noise is asked about once
        ]

    @property
    def _noises(self) -> tuple[bool, ...]:
        return (True, False) if self.clean else (True,)

    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, draws, columns)`."""
        rows = []
        for t, repeat in self.draws(evaluator.diffusion):
            columns = []
            for noise in self._noises:
                point = Point(t, repeat, noise=noise, exact=self.traces)
                middle = answers[point if noise else replace(point, repeat=0)].eps
                columns += [middle.square().flatten(1).sum(1)]
                if self.traces:
                    columns += [self._trace(batch, evaluator, answers, point)]
            rows.append(torch.stack(columns, 1))
        return torch.stack(rows, 1)

    def _trace(
        self, batch: ImageBatch, evaluator: Evaluator, answers: Answers, point: Point
    ) -> Tensor:
        """C of each image (n,): √(1−ᾱ) vᵀ (ε̂(x + h v) − ε̂(x − h v)) / 2h."""
        ends = [answers[replace(point, probe=probe)].eps for probe in (1, -1)]
        probe = probe_of(batch, ends[0], self.seed, point)
        along = (probe * (ends[0] - ends[1])).flatten(1).sum(1)
        return along * at_level(evaluator.diffusion, point.t, along)[1] / (2 * STEP)
