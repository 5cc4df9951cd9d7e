"""A network that also says what its blocks do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PLACES = 4
"""Along each side, over which activations are averaged."""


class Observed(nn.Module):
    """A network of the same weights whose output goes on with summaries of its blocks.

    A summary is of each channel: its means over a grid of places, and its standard deviation over
    all, `(c, places + 1)`.

    Args:
        network: maps `(B, C, *S)`, times (B,) and perhaps `class_labels` (B,) to `(B, C, *S)`.
        blocks: names of submodules that return one tensor.

    Raises:
        AttributeError: the network has no such block.
    """

    def __init__(self, network: nn.Module, blocks: Sequence[str]) -> None:
        super().__init__()
        weights = [*network.parameters(), *network.buffers()]
        # The copy's hooks are its own; its weights are those of the network.
        self.network = copy.deepcopy(network, {id(weight): weight for weight in weights})
        self.blocks = tuple(blocks)
        self._found: dict[str, Tensor] = {}
        for name in self.blocks:
            self.network.get_submodule(name).register_forward_hook(partial(self._keep, name))

    def forward(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """The output and the summaries one after the other, flat, float32 `(B, values)`."""
        output = self.network(x, t, **labels)
        parts = [output, *(self._found[name] for name in self.blocks)]
        return torch.cat([part.float().flatten(1) for part in parts], 1)

    def split(self, flat: Tensor, shape: torch.Size) -> tuple[Tensor, dict[str, Tensor]]:
        """The output in its shape `(C, *S)`, and the summaries `(B, c, places + 1)` by block."""
        sizes = [shape.numel(), *(self._found[name][0].numel() for name in self.blocks)]
        output, *parts = flat.split(sizes, dim=1)
        shapes = (self._found[name].shape[1:] for name in self.blocks)
        summaries = zip(self.blocks, parts, shapes, strict=True)
        return output.unflatten(1, shape), {
            name: part.unflatten(1, of_block) for name, part, of_block in summaries
        }

    def _keep(self, name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        """A forward hook of torch."""
        values = output.float()
        pools: tuple[Any, ...] = functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d
        means = pools[values.ndim - 4](values, [min(side, PLACES) for side in values.shape[2:]])
        places = values.flatten(2)
        deviation = places.std(2, keepdim=True, correction=min(1, places.shape[2] - 1))  # 0 of one
        self._found[name] = torch.cat([means.flatten(2), deviation], 2)
