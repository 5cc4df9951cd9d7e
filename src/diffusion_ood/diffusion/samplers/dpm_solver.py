"""DPM-Solver++ (Lu et al. 2022, "DPM-Solver++: Fast solver for guided sampling")."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.samplers.base import NO_STEP, BatchDenoiser, Sampler, State
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.runtime.transfers import to_like


class DPMSolverPlusPlus(Sampler):
    """The second-order multistep solver, 2M: x̂_0 is extrapolated in λ = log(√ᾱ / √(1 − ᾱ)).

    First order in a trajectory's first step, and in one that ends at the clean image, where λ has
    no end. Steps of about equal length in λ suit it best.
    """

    memory = 1
    encodes = False  # λ has no value at the clean image

    def step(self, denoiser: BatchDenoiser, now: State) -> tuple[Tensor, Tensor]:
        """Algorithm 2: D = x̂_0 + (h / 2h₋)·(x̂_0 − x̂_0₋), put in the place of x̂_0."""
        x_t, t = now.x_t, now.t
        signal, noise = (to_like(rate, x_t) for rate in now.schedule.alpha_sigma(t, x_t.ndim))
        x_0 = (x_t - noise * denoiser(x_t, t)) / signal
        # Half this step over the one before, in λ; 0 at first order.
        before = now.past_t[0]
        lambda_before, lambda_t, lambda_s = map(now.schedule.half_log_snr, (before, t, now.s))
        share = (lambda_s - lambda_t) / (lambda_t - lambda_before) / 2
        share = torch.where((before != NO_STEP) & (now.s != CLEAN), share, 0.0)
        d = x_0 + to_like(share, x_t).reshape(noise.shape) * (x_0 - now.past[0])
        return now.ddim_step((x_t - signal * d) / noise), x_0


SAMPLER = DPMSolverPlusPlus()
