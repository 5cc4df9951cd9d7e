"""PLMS, the pseudo linear multistep method (Liu et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.samplers.base import BatchDenoiser, age, ddim_step
from diffusion_ood.diffusion.schedule import NoiseSchedule

# Adams–Bashforth weights of the newest, second-newest, … slope; row k is used at age k.
ADAMS_BASHFORTH = torch.tensor(
    [
        [1, 0, 0, 0],
        [3 / 2, -1 / 2, 0, 0],
        [23 / 12, -16 / 12, 5 / 12, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ],
    dtype=torch.float64,
)


def extrapolated(weights: Tensor, eps: Tensor, past: Tensor) -> Tensor:
    """`w_0·ε̂ + w_1·ε̂_{−1} + …`: the slope of a step from its own and past ones.

    Args:
        weights: of each row, newest slope first, shape `(B, 1 + memory)`.
        eps: the newest slope, shape `(B, C, *S)`.
        past: those before it, newest first, shape `(memory, B, C, *S)`.
    """
    columns = weights.to(eps).T.reshape(len(past) + 1, -1, *[1] * (eps.ndim - 1))
    return columns[0] * eps + (columns[1:] * past).sum(0)


class PLMS:
    """Fourth order in its stride: the slope is extrapolated from the last four (eq. 12).

    The first three steps use the lower orders, so that every step is one network call; this start
    makes the whole trajectory second order in the step size.
    """

    memory = 3
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
        """Liu et al. (2022), equation 12, through the step of equation 11."""
        eps = denoiser(x_t, t)
        slope = extrapolated(ADAMS_BASHFORTH[age(past_t)], eps, past)
        return ddim_step(schedule, x_t, slope, t, s), eps


SAMPLER = PLMS()
