"""Whether compiling the network repays its cost, decided by the work that is left."""

from __future__ import annotations

import time

import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.device import compiler_is_there, synchronize

# On two CPU cores compiling the tiny network took 20 to 60 s, and the small one's training 98 s. It
# saved well over half of the time in bf16, whose casts are slow by themselves, and next to none in
# fp32. On an H100 the tiny one's training did not compile in 100 s, beside other jobs, and what it
# saves has not been measured: the figures for CUDA are cautious guesses.
COST_S = {"cpu": 60.0, "cuda": 240.0}
GAIN = {  # of the remaining time
    "cpu": {"fp32": 0.1, "bf16": 0.5, "fp16": 0.5},
    "cuda": {"fp32": 0.1, "bf16": 0.3, "fp16": 0.3},
}
FIRST_TIMED_STEP, LAST_TIMED_STEP = 2, 8


class CompileDecision:
    """Says once whether to compile; `auto` times the first steps to know.

    Args:
        mode: `on`, `off` or `auto`.
        device: where the network runs.
        precision: that of its autocast, which what compiling saves depends on.

    Raises:
        UserError: `on`, and nothing here could compile for the device.
    """

    def __init__(self, mode: str, device: torch.device, precision: str) -> None:
        possible = compiler_is_there(device)
        if mode == "on" and not possible:
            raise UserError(f"`compile` on: found no compiler for {device}; use auto or off")
        self.at_once = mode == "on"
        self._device = device
        self._precision = precision
        self._open = mode == "auto" and possible
        self._steps = 0
        self._begin = 0.0

    def after_step(self, remaining_steps: int) -> str | None:
        """Count one eager step; when the time has come, a sentence that begins with on or off.

        Args:
            remaining_steps: steps that are still to be made.
        """
        if not self._open:
            return None
        self._steps += 1
        if self._steps in (FIRST_TIMED_STEP, LAST_TIMED_STEP):
            synchronize(self._device)
        if self._steps == FIRST_TIMED_STEP:
            self._begin = time.perf_counter()
        if self._steps < LAST_TIMED_STEP:
            return None
        self._open = False
        step_s = (time.perf_counter() - self._begin) / (LAST_TIMED_STEP - FIRST_TIMED_STEP)
        return verdict(remaining_steps * step_s, self._precision, self._device)


def verdict(remaining_s: float, precision: str, device: torch.device) -> str:
    """`on` or `off`, and why, when the rest would take so many seconds without compiling.

    Args:
        remaining_s: seconds.
        precision: of the autocast.
        device: one that can be compiled for.
    """
    saving, cost_s = remaining_s * GAIN[device.type][precision], COST_S[device.type]
    return (
        f"{'on' if saving > cost_s else 'off'}: it would save about {saving:.0f} s of "
        f"{remaining_s:.0f} s and costs about {cost_s:.0f} s"
    )
