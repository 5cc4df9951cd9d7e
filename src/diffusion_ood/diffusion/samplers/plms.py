"""PLMS, the pseudo linear multistep method (Liu et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.samplers.base import transfer
from diffusion_ood.diffusion.schedule import NoiseSchedule

# Adams–Bashforth weights of the newest, second-newest, … slope; row k is used at age k.
_ADAMS_BASHFORTH = torch.tensor(
    [
        [1, 0, 0, 0],
        [3 / 2, -1 / 2, 0, 0],
        [23 / 12, -16 / 12, 5 / 12, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ],
    dtype=torch.float64,
)


class PLMS:
    """Fourth order in its stride: the slope is extrapolated from the last four (eq. 12).

    The first three steps use the lower orders, so that every step is one network call; this start
    makes the whole trajectory second order in the step size.
    """

    memory = 3

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
        """Liu et al. (2022), equation 12, through the transfer of equation 11."""
        eps = denoiser(x_t, t)
        weights = _ADAMS_BASHFORTH[age.clamp(max=self.memory)].to(x_t)
        weights = weights.T.reshape(self.memory + 1, -1, *[1] * (x_t.ndim - 1))
        slope = weights[0] * eps + (weights[1:] * past).sum(0)
        return transfer(schedule, x_t, slope, t, s), eps
