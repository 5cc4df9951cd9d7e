"""A compiled network for full batches, the plain one for the rest, and when to compile."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.compiling import verdict
from diffusion_ood.runtime.device import autocast, compiler_is_there, inductor_settings, synchronize

Network = Callable[..., Tensor]

TIMED_CALL = 3  # the first ones warm up


class CompiledForFullBatches:
    """Compiles for one batch size, since static shapes compile to faster code than dynamic ones.

    The weights, too, must stay as they are, and no gradient can be taken.

    Batches of more than a quarter of it are padded to it; smaller ones, of which there are few, go
    through the network as it is. In bf16 on a CPU a row then takes two to nine times as long.

    Args:
        network: maps `(B, C, *S)`, times (B,) and perhaps `class_labels` (B,) to `(B, C, *S)`, row
            by row.
        batch: the size of a full batch.
    """

    def __init__(self, network: Network, batch: int) -> None:
        self._plain = network
        self._compiled = torch.compile(network, dynamic=False)
        self._batch = batch

    def __call__(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """The network's output for `(B, C, *S)` and times (B,), B at most `batch`."""
        if 4 * len(x) <= self._batch:
            return self._plain(x, t, **labels)
        missing = self._batch - len(x)
        padding = [0, 0] * (x.ndim - 1) + [0, missing]
        padded = {name: functional.pad(label, [0, missing]) for name, label in labels.items()}
        with inductor_settings(x.device):
            whole = self._compiled(
                functional.pad(x, padding), functional.pad(t, [0, missing]), **padded
            )
        return whole[: len(x)]


class MaybeCompiled:
    """A network at a precision, compiled at once, never, or once the rest of the work repays it.

    On `auto` one of the first calls is timed: in mixed precision a CPU is several times as slow
    without compiling, and a whole batch of images would be too long to wait for the decision.

    Args:
        network: as for `CompiledForFullBatches`.
        batch: the size of a full batch.
        mode: `on`, `off` or `auto`.
        device: where the network runs.
        precision: that of its autocast, which what compiling saves depends on.

    Raises:
        UserError: `on`, and nothing here could compile for the device.
    """

    def __init__(
        self, network: Network, batch: int, mode: str, device: torch.device, precision: str
    ) -> None:
        possible = compiler_is_there(device)
        if mode == "on" and not possible:
            raise UserError(f"`compile` on: found no compiler for {device}; use auto or off")
        self._network = network
        self._batch = batch
        self._device = device
        self._precision = precision
        self._open = mode == "auto" and possible
        self._rows_left = 0
        self._calls = 0
        self._sentence: str | None = None
        if mode == "on":
            self._compile()

    def expect(self, rows: int) -> None:
        """Say how many rows are to come, which `auto` decides by."""
        self._rows_left = rows

    def __call__(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """The network's output for `(B, C, *S)` and times (B,), B at most `batch`."""
        begin = time.perf_counter()
        with autocast(self._device, self._precision):
            output = self._network(x, t, **labels)
        if not self._open:
            return output
        synchronize(self._device)
        self._rows_left -= len(x)
        self._calls += 1
        if self._calls == TIMED_CALL:
            self._decide((time.perf_counter() - begin) / len(x))
        return output

    def decision(self) -> str | None:
        """What was decided and why, once."""
        sentence, self._sentence = self._sentence, None
        return sentence

    def _decide(self, seconds_a_row: float) -> None:
        self._open = False
        found = verdict(seconds_a_row * max(0, self._rows_left), self._precision, self._device)
        self._sentence = f"compile {found}"
        if found.startswith("on"):
            self._compile()

    def _compile(self) -> None:
        self._network = CompiledForFullBatches(self._network, self._batch)
