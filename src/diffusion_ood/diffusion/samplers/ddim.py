"""DDIM (Song et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from diffusion_ood.diffusion.samplers.base import BatchDenoiser, ddim_step
from diffusion_ood.diffusion.schedule import NoiseSchedule


class DDIM:
    """First order: one network call a step, the slope taken as constant over it."""

    memory = 0
    encodes = True

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
        """Song et al. (2021), equation 12 with η = 0."""
        eps = denoiser(x_t, t)
        return ddim_step(schedule, x_t, eps, t, s), eps


SAMPLER = DDIM()
