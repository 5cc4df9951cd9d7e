"""Tensors to a GPU and back, without either side waiting for the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; a GPU is given the copy to make and not waited for."""
    if device.type != "cuda" or tensor.is_cuda or torch.compiler.is_compiling():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # of other memory a copy is waited for


def to_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor in the dtype and on the device of another one, rounded before it is sent."""
    return to_device(tensor.to(like.dtype), like.device)


def rows_of(tensor: Tensor, chosen: Tensor) -> Tensor:
    """Some rows of a tensor on any device.

    Args:
        tensor: shape `(B, …)`.
        chosen: which, a boolean (B,) or numbers (n,), on the CPU; a GPU that is given a boolean
            would be waited for.
    """
    numbers = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
    return tensor[to_device(numbers, tensor.device)]


class Arriving:
    """A tensor on its way to the CPU, while its device goes on with other work."""

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._here = tensor.cpu()
            return
        self._here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._here.copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record(torch.cuda.current_stream(tensor.device))

    def get(self) -> Tensor:
        """The tensor on the CPU, waited for where it has not arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._here


def later(items: Iterable[Item], device: torch.device) -> Iterator[Item]:
    """Items that a device is still at work on: of a GPU each as the next one is under way."""
    if device.type != "cuda":
        yield from items
        return
    before: list[Item] = []
    for item in items:
        yield from before
        before = [item]
    yield from before
