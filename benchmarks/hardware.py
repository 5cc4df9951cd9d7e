"""What machine this is, and the best that it does."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from models import flops
from timing import interleaved
from torch import Tensor, nn

from diffusion_ood.diffusion.model import DiffusionModel

PRODUCTS = (nn.Conv2d, nn.Linear)  # where nearly all of a network's operations are


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return {"cpu": model, "threads": torch.get_num_threads(), "torch": torch.__version__}


Work = tuple[Callable[[], Tensor], float]
"""Something to compute, and its floating-point operations."""


def peaks(model: DiffusionModel, batch: int) -> dict[str, Work]:
    """What a machine computes fastest in bf16.

    A large matrix product, and the heaviest convolution of a network call on a batch.
    """
    matrix = torch.randn(4096, 4096).bfloat16()
    inputs = _inputs(model, batch)
    convolution = _heaviest_convolution(inputs)
    x = inputs[convolution]
    return {
        "matrix_product": (lambda: matrix @ matrix, 2 * 4096**3),
        "heaviest_convolution": (_alone(convolution, x), flops(convolution, x)),
    }


class PeakBesideCalls:
    """A network that computes the machine's best after each of its calls.

    The speed of a shared machine may be a third of what it was a second before. Between the calls
    the best is measured at the speed that the calls had.

    Args:
        network: the network.
        best: from `peaks`.
    """

    def __init__(self, network: Callable[..., Tensor], best: Mapping[str, Work]) -> None:
        self._network = network
        self._best = best
        self._calls = 0
        self._seconds = dict.fromkeys(best, 0.0)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's output."""
        output = self._network(x, t)
        self._calls += 1
        for name, (run, _) in self._best.items():
            begin = time.perf_counter()
            run()
            self._seconds[name] += time.perf_counter() - begin
        return output

    @property
    def seconds(self) -> float:
        """Seconds in all that were not the network's."""
        return sum(self._seconds.values())

    @property
    def gflops(self) -> dict[str, float]:
        """Floating-point operations a nanosecond of each of the best."""
        return {
            name: self._calls * work / self._seconds[name] / 1e9
            for name, (_, work) in self._best.items()
        }


@torch.inference_mode()
def shares_alone(model: DiffusionModel, batch: int) -> dict[str, float]:
    """The shares of the heaviest convolution's speed of a network call's parts, each timed alone.

    Of products alone: its convolutions and linear layers are timed each by itself in bf16, and
    nothing between them is counted. Of products and copies: where there is a normalisation, the
    time of reading its input and writing as much is added, without any arithmetic. A call may do
    a little better, where a cache still holds what the layer before has written. Medians of rounds
    over all layers, the heaviest convolution among them.
    """
    inputs = _inputs(model, batch)
    convolution = _heaviest_convolution(inputs)
    products = [layer for layer in inputs if isinstance(layer, PRODUCTS)]
    work = sum(flops(layer, inputs[layer]) for layer in products)
    heaviest = flops(convolution, inputs[convolution])
    times = interleaved({layer: _alone(layer, x) for layer, x in inputs.items()}, runs=21)

    def share(layers: Iterable[nn.Module]) -> float:
        rounds = zip(*(times[layer].seconds for layer in layers), strict=True)
        return median(
            work / sum(seconds) / (heaviest / own)
            for seconds, own in zip(rounds, times[convolution].seconds, strict=True)
        )

    return {
        "peak_share_of_products_alone": share(products),
        "peak_share_of_products_and_copies": share(inputs),
    }


def _heaviest_convolution(inputs: Mapping[nn.Module, Tensor]) -> nn.Module:
    """The convolution with the most floating-point operations."""
    return max(
        (layer for layer in inputs if isinstance(layer, nn.Conv2d)),
        key=lambda layer: flops(layer, inputs[layer]),
    )


def _inputs(model: DiffusionModel, batch: int) -> dict[nn.Module, Tensor]:
    """What a network call on a batch gives to each of its products and normalisations."""
    inputs: dict[nn.Module, Tensor] = {}
    kinds = (*PRODUCTS, nn.GroupNorm)
    layers = [layer for layer in model.network.modules() if isinstance(layer, kinds)]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: inputs.update({layer: given[0]}))
        for layer in layers
    ]
    with torch.no_grad():
        model.network(torch.zeros(batch, *model.image_shape), torch.zeros(batch))
    for hook in hooks:
        hook.remove()
    return inputs


def _alone(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A call of this layer on its input, both in bf16 and in the fastest layout; or a copy of it.

    The input of a normalisation is copied, which is the least that can be done with it.
    """
    x = x.bfloat16()
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    if isinstance(layer, nn.GroupNorm):
        written = torch.empty_like(x)
        return lambda: written.copy_(x)
    copy = deepcopy(layer).bfloat16()
    if x.ndim == 4:
        copy.to(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: copy(x))
