"""A network that is compiled or recorded at once, never, or once the rest of the work repays it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.device import autocast, compiler_is_there, inductor_settings, synchronize
from diffusion_ood.runtime.graphs import WARM_UP, Recorded, Recorder
from diffusion_ood.runtime.words import duration

Network = Callable[..., Tensor]

# On two CPU cores compiling the tiny network took 20 to 60 s, and the small one's training 98 s. It
# saved well over half of the time in bf16, whose casts are slow by themselves, and next to none in
# fp32. The figures for CUDA are cautious guesses.
COST_S = {"cpu": 60.0, "cuda": 240.0}
GAIN_FP32, GAIN_MIXED = 0.1, {"cpu": 0.5, "cuda": 0.3}  # of the time that is left
TIMED_CALL = 3  # the first ones warm up
# Guesses, too. A recording costs its calls and what torch does to be alone on the device.
RECORDING_S, RECORDING_CALLS, RECORDING_GAIN = 0.5, WARM_UP + 3, 0.2
FIRST_TIMED_STEP, LAST_TIMED_STEP = 2, 8


class CompileDecision:
    """Whether to compile: at once, never, or as soon as the time that is left is known.

    Args:
        mode: `on`, `off` or `auto`, which decides by that time.
        device: where the network runs.
        precision: that of its autocast, which what compiling saves depends on.

    Attributes:
        compile_now: the decision; False as long as it is open.
        is_open: whether it is still to be made.
        seconds_a_step: of a training, once `after_step` has timed some; 0 before.
        reason: why `auto` decided as it did, `on: …` or `off: …`; empty before.

    Raises:
        UserError: `on`, and nothing here could compile for the device.
    """

    def __init__(self, mode: str, device: torch.device, precision: str) -> None:
        possible = compiler_is_there(device)
        if mode == "on" and not possible:
            raise UserError(f"`compile` on: found no compiler for {device}; use auto or off")
        self.device = device
        self.precision = precision
        self.compile_now = mode == "on"
        self.is_open = mode == "auto" and possible
        self.reason = ""
        self.seconds_a_step = 0.0
        self._steps, self._begin = 0, 0.0

    def observe(self, seconds_left: float) -> bool:
        """Decide, where the rest of the work would take so long without compiling."""
        kind = self.device.type
        saving = seconds_left * (GAIN_FP32 if self.precision == "fp32" else GAIN_MIXED[kind])
        cost = COST_S[kind]
        self.is_open, self.compile_now = False, saving > cost
        self.reason = (
            f"{'on' if self.compile_now else 'off'}: it would save about {duration(saving)} of "
            f"{duration(seconds_left)} and costs about {duration(cost)}"
        )
        return self.compile_now

    @property
    def timed_now(self) -> bool:
        """Whether `seconds_a_step` follows from the last step."""
        return self._steps == LAST_TIMED_STEP

    def after_step(self, remaining_steps: int) -> str | None:
        """Count a training's step, with so many still to be made; the reason when decided."""
        self._steps += 1
        if self._steps == FIRST_TIMED_STEP:
            synchronize(self.device)
            self._begin = time.perf_counter()
        if self._steps != LAST_TIMED_STEP:
            return None
        synchronize(self.device)
        seconds = time.perf_counter() - self._begin
        self.seconds_a_step = seconds / (LAST_TIMED_STEP - FIRST_TIMED_STEP)
        if not self.is_open:
            return None
        self.observe(remaining_steps * self.seconds_a_step)
        return self.reason


class CompiledForFullBatches:
    """Compiles for one batch size, since static shapes compile to faster code than dynamic ones.

    The weights, too, must stay as they are, and no gradient can be taken. Batches of at least a
    quarter of the size are padded to it; smaller and larger ones go through the network as it is.

    Args:
        network: maps `(B, C, *S)`, times (B,) and perhaps `class_labels` (B,) to `(B, C, *S)`, row
            by row.
        batch: the size of a full batch; None is that of the first call.
    """

    def __init__(self, network: Network, batch: int | None) -> None:
        self._plain = network
        self._compiled = torch.compile(network, dynamic=False)
        self._batch = batch

    def __call__(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """The network's output for `(B, C, *S)` and times (B,)."""
        self._batch = self._batch or len(x)
        if not self._batch <= 4 * len(x) <= 4 * self._batch:
            return self._plain(x, t, **labels)
        rows = [0, self._batch - len(x)]
        padded = {name: functional.pad(label, rows) for name, label in labels.items()}
        x_padded = functional.pad(x, [0, 0] * (x.ndim - 1) + rows)
        with inductor_settings(x.device):
            return self._compiled(x_padded, functional.pad(t, rows), **padded)[: len(x)]


class MaybeCompiled:
    """A network at a precision, perhaps compiled or recorded; on `auto` a first call is timed.

    Args:
        network: as that of `CompiledForFullBatches`.
        batch: the size of a full batch.
        mode: `off`, as it is; `graph`, recorded; `on`, compiled, and recorded; `auto`, what the
            rest of the work repays.
        device: where it computes.
        precision: of its autocast.
        recorder: what records on the device; without one nothing is recorded.
    """

    def __init__(
        self,
        network: Network,
        batch: int,
        mode: str,
        device: torch.device,
        precision: str,
        recorder: Recorder | None = None,
    ) -> None:
        self._policy = CompileDecision("off" if mode == "graph" else mode, device, precision)
        self._is_open = mode == "auto" and (self._policy.is_open or recorder is not None)
        self._network = network
        # A GPU could take so many rows that calls may all be of fewer, and padding would be work.
        self._batch = None if device.type == "cuda" else batch
        self._recorder = recorder
        self._recorded: Recorded | None = None
        self._reasons: list[str] = []
        self._rows_left = 0
        self._calls = 0
        if self._policy.compile_now:
            self._network = CompiledForFullBatches(network, self._batch)
        if mode in ("on", "graph"):
            self._record()

    def expect(self, rows: int) -> None:
        """Say how many rows are to come, which `auto` decides by."""
        self._rows_left = rows

    def __call__(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """The network's output for `(B, C, *S)` and times (B,), B at most `batch`."""
        begin = time.perf_counter()
        with autocast(self._policy.device, self._policy.precision):
            output = self._network(x, t, **labels)
            if not self._is_open:
                return output
            synchronize(self._policy.device)
            self._rows_left -= len(x)
            self._calls += 1
            if self._calls == TIMED_CALL:
                self._decide(time.perf_counter() - begin, x, t, **labels)
        return output

    def decision(self) -> str | None:
        """What was decided and why, once."""
        if self._recorded is not None and self._recorded.failure:
            self._reasons.append(f"no CUDA graph: {self._recorded.failure}")
            self._recorded = None
        found, self._reasons = self._reasons, []
        return "; ".join(found) or None

    def _decide(self, seconds: float, x: Tensor, t: Tensor, **labels: Tensor) -> None:
        """Record and compile where the calls that are left repay it, each of so many seconds."""
        self._is_open = False
        plain, calls_left = self._network, max(0, self._rows_left) / len(x)
        cost = RECORDING_S + RECORDING_CALLS * seconds
        if RECORDING_GAIN * seconds * calls_left > cost and (recorded := self._record()):
            recorded.record(x, t, **labels)
            again = self._seconds(x, t, **labels)
            if not recorded.failure:
                found = f"{again:.2g} s a call as a CUDA graph, {seconds:.2g} s before"
                self._reasons.append(found)
                recorded.least_share = max(recorded.least_share, again / seconds)
                if again >= seconds:
                    self._network, self._recorded = plain, None
            seconds = min(again, seconds)
        if not self._policy.is_open:
            return
        if self._policy.observe(seconds * calls_left):
            full = self._batch
            if full and full > 4 * len(x):  # of which such a call would not be one
                full = len(x)
            self._network = CompiledForFullBatches(plain, full)
            self._record()
        self._reasons.append(f"compile {self._policy.reason}")

    def _seconds(self, x: Tensor, t: Tensor, **labels: Tensor) -> float:
        """How long a call takes after a first one."""
        seconds = 0.0
        for _ in range(2):
            synchronize(self._policy.device)
            begin = time.perf_counter()
            self._network(x, t, **labels)
            synchronize(self._policy.device)
            seconds = time.perf_counter() - begin
        return seconds

    def _record(self) -> Recorded | None:
        """Let the network be recorded from now on, where something can."""
        if self._recorder is not None:
            self._network = self._recorded = Recorded(self._network, self._recorder)
        return self._recorded
