"""PLMS, the pseudo linear multistep method (Liu et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.samplers.base import BatchDenoiser, Sampler, State
from diffusion_ood.runtime.transfers import to_like

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
    columns = to_like(weights, eps).T.reshape(len(past) + 1, -1, *[1] * (eps.ndim - 1))
    return columns[0] * eps + (columns[1:] * past).sum(0)


class PLMS(Sampler):
    """Fourth order in its stride: the slope is extrapolated from the last four (eq. 12).

    The first three steps use the lower orders, so that every step is one network call; this start
    makes the whole trajectory second order in the step size.
    """

    memory = 3

    def step(self, denoiser: BatchDenoiser, now: State) -> tuple[Tensor, Tensor]:
        """Liu et al. (2022), equation 12, through the step of equation 11."""
        eps = denoiser(now.x_t, now.t)
        return now.ddim_step(extrapolated(ADAMS_BASHFORTH[now.age], eps, now.past)), eps


SAMPLER = PLMS()
