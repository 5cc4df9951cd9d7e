"""DDIM (Song et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from diffusion_ood.diffusion.samplers.base import BatchDenoiser, Sampler, State


class DDIM(Sampler):
    """First order: one network call a step, the slope taken as constant over it."""

    def step(self, denoiser: BatchDenoiser, now: State) -> tuple[Tensor, Tensor]:
        """Song et al. (2021), equation 12 with η = 0."""
        eps = denoiser(now.x_t, now.t)
        return now.ddim_step(eps), eps


SAMPLER = DDIM()
