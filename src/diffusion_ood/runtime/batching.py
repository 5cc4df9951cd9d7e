"""A compiled network for full batches, the plain one for the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Network = Callable[..., Tensor]


class CompiledForFullBatches:
    """Compiles for one batch size, since static shapes compile to faster code than dynamic ones.

    Batches of more than half of it are padded to it; smaller ones, of which there are few, go
    through the network as it is.

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
        missing = self._batch - len(x)
        if missing > self._batch // 2:
            return self._plain(x, t, **labels)
        padding = [0, 0] * (x.ndim - 1) + [0, missing]
        padded = {name: functional.pad(label, [0, missing]) for name, label in labels.items()}
        whole = self._compiled(
            functional.pad(x, padding), functional.pad(t, [0, missing]), **padded
        )
        return whole[: len(x)]
