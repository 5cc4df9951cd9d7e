"""A bound on the likelihood of an image, and the same less how hard it is to compress.

In the limit of many levels the evidence lower bound of a diffusion model is, up to a constant,

    −log p(x) ≤ ½ ∫ E‖ε − ε̂(x_t)‖² dλ,    λ the log-SNR

(Kingma et al., "Variational diffusion models", NeurIPS 2021, equation 11), here by the trapezoidal
rule over a few levels with one draw of noise. Plain images are likely whatever they show: the bits
that PNG or JPEG 2000, whichever is shorter, needs for the image are taken off (Serrà et al., "Input
complexity and out-of-distribution detection with likelihood-based generative models", ICLR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import log_snr
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.compressed import compressed_bits
from diffusion_ood.methods.pointwise import Answers, EvenMethod, Point, noise_of
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class Likelihood(EvenMethod):
    """Bits of the bound, of the compressed image, and their difference; a row an image.

    Args:
        num_levels, repeats, seed: see `EvenMethod`; the integral is over all of them.
    """

    name = "likelihood"
    directed = False
    columns = ("bits", "compressed_bits", "excess_bits")

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """One, at the lowest level."""
        return [(self.all_draws(diffusion)[0][0], 0)]

    def all_draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level and repeat that is integrated over."""
        return super().draws(diffusion)

    def settings(self, diffusion: Diffusion) -> dict[str, object]:
        """The levels and the seed."""
        return {"draws": [list(draw) for draw in self.all_draws(diffusion)], "seed": self.seed}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The noisy image at every level."""
        return [Point(t, repeat) for t, repeat in self.all_draws(diffusion)]

    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, 1, columns)`."""
        diffusion = evaluator.diffusion
        points = self.points(diffusion)
        errors: dict[int, list[Tensor]] = {}
        for point in points:
            eps = answers[point].eps
            missed = noise_of(batch, eps, self.seed, point) - eps
            errors.setdefault(point.t, []).append(missed.square().flatten(1).sum(1).double().cpu())
        means = torch.stack([torch.stack(found).mean(0) for found in errors.values()])
        at = log_snr(diffusion.schedule, diffusion.codec.limits)[list(errors)].double()
        bits = torch.trapezoid(means, -at, dim=0) / 2 / math.log(2)
        compressed = torch.tensor([compressed_bits(image) for image in batch.images.cpu()])
        return torch.stack([bits, compressed, bits - compressed], 1)[:, None]
