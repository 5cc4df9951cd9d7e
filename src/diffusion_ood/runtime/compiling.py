"""Whether compiling the network repays its cost, decided by the work that is left."""

from __future__ import annotations

import time

import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.device import compiler_is_there

# Compiling the tiny network took 20 to 60 s on two CPU cores, and the small one's training 98 s. It
# saved well over half of the time in bf16, whose casts are slow by themselves, and next to none in
# fp32.
COST_S = 60.0
GAIN = {"fp32": 0.1, "bf16": 0.5, "fp16": 0.5}  # of the remaining time
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
            raise UserError(f"--compile on: found no compiler for {device}; use auto or off")
        self.at_once = mode == "on"
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
        if self._steps == FIRST_TIMED_STEP:
            self._begin = time.perf_counter()
        if self._steps < LAST_TIMED_STEP:
            return None
        self._open = False
        step_s = (time.perf_counter() - self._begin) / (LAST_TIMED_STEP - FIRST_TIMED_STEP)
        return verdict(remaining_steps * step_s, self._precision)


def verdict(remaining_s: float, precision: str) -> str:
    """`on` or `off`, and why, when the rest would take so many seconds without compiling."""
    saving = remaining_s * GAIN[precision]
    return (
        f"{'on' if saving > COST_S else 'off'}: it would save about {saving:.0f} s of "
        f"{remaining_s:.0f} s and costs about {COST_S:.0f} s"
    )
