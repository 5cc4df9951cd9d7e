"""DDIM (Song et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.samplers.base import transfer
from diffusion_ood.diffusion.schedule import NoiseSchedule


class DDIM:
    """First order: one network call a step, the slope taken as constant over it."""

    memory = 0

    def step(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        past: Tensor,
        age: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Song et al. (2021), equation 12 with η = 0."""
        eps = denoiser(x_t, t)
        return transfer(schedule, x_t, eps, t, s), eps
