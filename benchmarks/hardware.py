"""What machine this is, and the best that it does."""

from __future__ import annotations

import platform
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
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


def peaks(model: DiffusionModel, batch: int) -> dict[str, tuple[Callable[[], Tensor], float]]:
    """What a machine computes fastest in bf16, and the floating-point operations of each.

    A large matrix product, and the heaviest convolution of a network call on a batch.
    """
    matrix = torch.randn(4096, 4096).bfloat16()
    inputs = _inputs(model, batch)
    convolution = max(
        (layer for layer in inputs if isinstance(layer, nn.Conv2d)),
        key=lambda layer: flops(layer, inputs[layer]),
    )
    x = inputs[convolution]
    return {
        "matrix_product": (lambda: matrix @ matrix, 2 * 4096**3),
        "heaviest_convolution": (_alone(convolution, x), flops(convolution, x)),
    }


@torch.inference_mode()
def seconds_in_products(model: DiffusionModel, batch: int) -> float:
    """Seconds of a network call's convolutions and linear layers, each timed by itself in bf16.

    Nothing between them is counted: no normalisation, activation, attention, addition or copy. So a
    network call would take this long if all of that were free.
    """
    layers = _inputs(model, batch).items()
    runs = {str(k): _alone(layer, x) for k, (layer, x) in enumerate(layers)}
    return sum(min(times.seconds) for times in interleaved(runs, runs=5).values())


def _inputs(model: DiffusionModel, batch: int) -> dict[nn.Module, Tensor]:
    """What a network call on a batch gives to each of its convolutions and linear layers."""
    inputs: dict[nn.Module, Tensor] = {}
    layers = [layer for layer in model.network.modules() if isinstance(layer, PRODUCTS)]
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
    """A call of a copy of this layer on its input, both in bf16 and in the fastest layout."""
    copy = deepcopy(layer).bfloat16()
    x = x.bfloat16()
    if x.ndim == 4:
        copy.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: copy(x))
