"""A recorder for tests: as a CUDA graph repeats work, with whatever device there is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Recorder:
    """Repeats work into the storage of its first output; other outputs are lost meanwhile.

    Attributes:
        recorded, repeated: rows of each recording, and of each repetition.
        repeating: whether one is at work.
    """

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.recorded: list[int] = []
        self.repeated: list[int] = []
        self.repeating = False
        self._outputs: list[Tensor] = []

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `diffusion_ood.runtime.graphs.Recorder`."""
        if self.failure:
            raise RuntimeError(self.failure)
        output = work().clone()
        self.recorded.append(len(output))
        self._outputs.append(output)

        def repeat() -> None:
            self.repeated.append(len(output))
            self.repeating = True
            found = work()
            self.repeating = False
            for other in self._outputs:
                other.fill_(torch.nan)
            output.copy_(found)

        output.fill_(torch.nan)  # nothing has run yet
        return repeat, output
