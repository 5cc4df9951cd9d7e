"""PNDM, pseudo numerical methods for diffusion models (Liu et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.samplers.base import BatchDenoiser, Sampler, State, ddim_step
from diffusion_ood.diffusion.samplers.plms import ADAMS_BASHFORTH, extrapolated
from diffusion_ood.runtime.transfers import rows_of, to_device


class PNDM(Sampler):
    """A multistep method that starts with Runge–Kutta steps of its own order.

    With steps of equation 11 either is second order (Liu et al. 2022, section 3.3).

    The network is asked at whole times that it was trained at: the middle of t and s is rounded
    down, and a stage that would lie at the clean image lies at t = 0. Where strides are odd, the
    rounding costs some of the order. Past slopes are the plain ε̂ at the start of each step.

    Args:
        order: 2 (S-PNDM: improved Euler, then two slopes) or 4 (F-PNDM: classical Runge–Kutta,
            then four slopes).
    """

    def __init__(self, order: int) -> None:
        assert order in (2, 4), "PNDM is known of order 2 and 4"
        self.memory = order - 1
        self._stages = order - 1  # network calls beside the first, in a Runge–Kutta step

    def calls(self, num_steps: int) -> int:
        """One a step, and the further stages of the Runge–Kutta steps."""
        return num_steps + self._stages * min(num_steps, self.memory)

    def step(self, denoiser: BatchDenoiser, now: State) -> tuple[Tensor, Tensor]:
        """Liu et al. (2022), equations 12 to 14, through the step of equation 11."""
        eps = denoiser(now.x_t, now.t)
        weights = ADAMS_BASHFORTH[self.memory, : self.memory + 1].expand(len(eps), -1)
        slope = extrapolated(weights, eps, now.past)
        young = now.age < self.memory
        if young.any():
            rows = to_device(young.nonzero()[:, 0], eps.device)
            slope[rows] = self._runge_kutta(denoiser, now, eps[rows], young)
        return now.ddim_step(slope), eps

    def _runge_kutta(
        self, denoiser: BatchDenoiser, now: State, eps: Tensor, rows: Tensor
    ) -> Tensor:
        """The slope of a step from stages within it, for these rows of the batch."""
        x_t, t, s = rows_of(now.x_t, rows), now.t[rows], now.s[rows]

        def stage(slope: Tensor, time: Tensor) -> Tensor:
            return denoiser(ddim_step(now.schedule, x_t, slope, t, time), time, rows)

        end = s.clamp(min=0)
        if self._stages == 1:
            return (eps + stage(eps, end)) / 2
        middle = torch.div(t + s, 2, rounding_mode="floor").clamp(min=0)
        second = stage(eps, middle)
        third = stage(second, middle)
        fourth = stage(third, end)
        return (eps + 2 * second + 2 * third + fourth) / 6


SECOND_ORDER, FOURTH_ORDER = PNDM(order=2), PNDM(order=4)
