"""What machine this is, and the best that it does."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from models import flops
from torch import Tensor, nn

from diffusion_ood.model import Diffusion


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


def peaks(model: Diffusion, batch: int) -> dict[str, Work]:
    """What a machine computes fastest in bf16 by torch's own libraries.

    A large matrix product, and the heaviest convolution of a network call on a batch, its weights
    laid out once.
    """
    matrix = torch.randn(4096, 4096).bfloat16()
    convolution, x = heaviest_convolution(model, batch)
    return {
        "matrix_product": (lambda: matrix @ matrix, 2 * 4096**3),
        "heaviest_convolution": (_laid_out(convolution, x), flops(convolution, x)),
    }


class Peak:
    """The machine's best, computed as often as this is called: after each call of a network.

    The speed of a shared machine may be a third of what it was a second before. Between the calls
    the best is measured at the speed that the calls had.

    Args:
        best: from `peaks`.
    """

    def __init__(self, best: Mapping[str, Work]) -> None:
        self._best = best
        self._calls = 0
        self._seconds = dict.fromkeys(best, 0.0)

    def __call__(self) -> None:
        """Compute each of the best once."""
        self._calls += 1
        for name, (run, _) in self._best.items():
            begin = time.perf_counter()
            run()
            self._seconds[name] += time.perf_counter() - begin

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


def heaviest_convolution(model: Diffusion, batch: int) -> tuple[nn.Conv2d, Tensor]:
    """The convolution of images with the most floating-point operations, and its input."""
    inputs: dict[nn.Conv2d, Tensor] = {}
    device = next(model.network.parameters()).device
    layers = [layer for layer in model.network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: inputs.update({layer: given[0]}))
        for layer in layers
    ]
    with torch.no_grad():
        x, t = torch.zeros(batch, *model.image_shape), torch.zeros(batch)
        model.network(x.to(device), t.to(device))
    for hook in hooks:
        hook.remove()
    return max(inputs.items(), key=lambda item: flops(*item))


def _laid_out(layer: nn.Conv2d, x: Tensor) -> Callable[[], Tensor]:
    """A call of this convolution on its input, in bf16, as torch's compiler calls the library.

    The weights are laid out once. On its own the layer would lay them out at every call.
    """
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    weight = layer.weight.detach().bfloat16().contiguous(memory_format=torch.channels_last)
    bias = None if layer.bias is None else layer.bias.detach().bfloat16()
    places = list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
    weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *places, list(x.shape))
    convolve = torch.ops.mkldnn._convolution_pointwise
    return torch.inference_mode()(lambda: convolve(x, weight, bias, *places, "none", [], ""))
