"""What machine this is, and the best that it does."""

from __future__ import annotations

import platform
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
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


def peak_gflops() -> dict[str, float]:
    """The best that this machine does, in GFLOP/s: a large matrix product and a convolution."""
    single = torch.randn(4096, 4096)
    matrix = single.bfloat16()
    x = torch.randn(128, 256, 28, 28).bfloat16().to(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1).bfloat16()
    convolution = convolution.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        times = interleaved(
            {
                "matrix_product_fp32": lambda: single @ single,
                "matrix_product_bf16": lambda: matrix @ matrix,
                "convolution_bf16": lambda: convolution(x),
            },
            runs=7,
        )
    product, convolved = 2 * 4096**3, 2 * 128 * 28 * 28 * 256 * 256 * 9
    work = {
        "matrix_product_fp32": product,
        "matrix_product_bf16": product,
        "convolution_bf16": convolved,
    }
    return {name: work[name] / min(t.seconds) / 1e9 for name, t in times.items()}


@torch.inference_mode()
def seconds_in_products(model: DiffusionModel, batch: int) -> float:
    """Seconds of a network call's convolutions and linear layers, each timed by itself in bf16.

    Nothing between them is counted: no normalisation, activation, attention, addition or copy. So a
    network call would take this long if all of that were free.
    """
    inputs: dict[nn.Module, Tensor] = {}
    layers = [layer for layer in model.network.modules() if isinstance(layer, PRODUCTS)]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: inputs.update({layer: given[0]}))
        for layer in layers
    ]
    model.network(torch.zeros(batch, *model.image_shape), torch.zeros(batch))
    for hook in hooks:
        hook.remove()
    runs = {str(k): _alone(layer, x) for k, (layer, x) in enumerate(inputs.items())}
    return sum(min(times.seconds) for times in interleaved(runs, runs=5).values())


def _alone(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A call of a copy of this layer on its input, both in bf16 and in the fastest layout."""
    copy = deepcopy(layer).bfloat16()
    x = x.bfloat16()
    if x.ndim == 4:
        copy.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return lambda: copy(x)
