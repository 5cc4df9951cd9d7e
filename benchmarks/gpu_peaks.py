"""The best rates of a device, by torch's own libraries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from gpu_device import fastest
from hardware import heaviest_convolution
from models import flops, fresh_model
from torch import Tensor

from diffusion_ood.runtime.device import synchronize

RUNS, RUN_S = 5, 0.05


def peaks(
    device: torch.device,
    side: int,
    copied_mib: int,
    convolutions: Sequence[tuple[str, tuple[int, ...], int]],
) -> dict[str, float]:
    """The rates of a bf16 matrix product, of the best of some bf16 convolutions, and of a copy.

    Args:
        device: that is measured.
        side: of the square matrices.
        copied_mib: size of what is copied; bytes read and written are counted.
        convolutions: model, sides and batch of network calls, whose heaviest are taken.
    """
    with torch.inference_mode(), fastest():
        return {
            "matrix_tflops": _matrix(device, side),
            "convolution_tflops": max(_convolution(device, *one) for one in convolutions),
            "copy_tb_s": _copy(device, copied_mib),
        }


def _matrix(device: torch.device, side: int) -> float:
    matrix = torch.randn(side, side, device=device).bfloat16()
    return 2 * side**3 / _seconds(lambda: matrix @ matrix, device) / 1e12


def _copy(device: torch.device, mib: int) -> float:
    source = torch.randn(mib * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device) / 1e12


def _convolution(
    device: torch.device, model_type: str, sides: tuple[int, ...], batch: int
) -> float:
    model = fresh_model(model_type, sides)
    model.network.to(device)
    layer, one = heaviest_convolution(model, 1)
    layer = layer.bfloat16().to(memory_format=torch.channels_last)
    x = torch.randn(batch, *one.shape[1:], device=device).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    return flops(layer, x) / _seconds(lambda: layer(x), device) / 1e12


def _seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    """Median seconds of a call among many."""

    def timed(calls: int) -> float:
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        synchronize(device)
        return (time.perf_counter() - begin) / calls

    timed(2)  # the libraries choose
    calls = max(2, round(RUN_S / timed(2)))
    return statistics.median(timed(calls) for _ in range(RUNS))
