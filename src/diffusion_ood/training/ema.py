"""The exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """`w ← d·w + (1 − d)·weights` after every step, with d = min(decay, (1 + n) / (10 + n)).

    The warm-up over the step number n keeps the random first weights out of a short run's average.

    Args:
        network: its weights start the average.
        decay: the final d, 0 ≤ decay < 1; with 0 the average is the weights themselves.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Average in the weights after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        values: list[Tensor] = list(network.state_dict().values())
        torch._foreach_lerp_(list(self.weights.values()), values, 1 - decay)
