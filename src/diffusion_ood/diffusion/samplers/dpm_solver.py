"""DPM-Solver++ (Lu et al. 2022, "DPM-Solver++: Fast solver for guided sampling")."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.samplers.base import NO_STEP, BatchDenoiser, ddim_step
from diffusion_ood.diffusion.schedule import CLEAN, NoiseSchedule


class DPMSolverPlusPlus:
    """The second-order multistep solver, 2M: x̂_0 is extrapolated in λ = log(√ᾱ / √(1 − ᾱ)).

    First order in a trajectory's first step, and in one that ends at the clean image, where λ has
    no end. Steps of about equal length in λ suit it best.
    """

    memory = 1
    encodes = False  # λ has no value at the clean image

    def calls(self, num_steps: int) -> int:
        """One a step."""
        return num_steps

    def step(
        self,
        denoiser: BatchDenoiser,
        schedule: NoiseSchedule,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        past: Tensor,
        past_t: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Algorithm 2: D = x̂_0 + (h / 2h₋)·(x̂_0 − x̂_0₋), put in the place of x̂_0."""
        signal, noise = (rate.to(x_t) for rate in schedule.alpha_sigma(t, x_t.ndim))
        x_0 = (x_t - noise * denoiser(x_t, t)) / signal
        share = _extrapolation(schedule, past_t[0], t, s)
        d = x_0 + share.to(x_t).reshape(noise.shape) * (x_0 - past[0])
        return ddim_step(schedule, x_t, (x_t - signal * d) / noise, t, s), x_0


def _extrapolation(schedule: NoiseSchedule, before: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Half the step from t to s over the one from `before` to t, in λ; 0 at first order."""
    lambda_before, lambda_t, lambda_s = map(schedule.half_log_snr, (before, t, s))
    share = (lambda_s - lambda_t) / (lambda_t - lambda_before) / 2
    return torch.where((before != NO_STEP) & (s != CLEAN), share, 0.0)


SAMPLER = DPMSolverPlusPlus()
