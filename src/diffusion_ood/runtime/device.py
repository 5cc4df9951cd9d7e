"""Where and how precisely to compute: the one place that tells CPU, CUDA and MPS apart."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sysconfig
from pathlib import Path

import torch
from torch import nn
from torch._inductor import config as inductor

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

LEAST_ROWS, MOST_ROWS, MOST_CUDA_ROWS = 2, 256, 2048
CACHED_BYTES = 2 * 2**20
"""What one activation may take on each thread of a CPU. Of widths on cores with 1 and with 2 MiB of
second-level cache, calls were fastest for their rows near this or below; see docs/performance.md.
"""
CUDA_SHARE, CUDA_BYTES = 1 / 8, 32
"""Of a GPU's memory a call may take this share, at so many bytes for each number of one activation.
Both are guesses: eight activations in fp32 at a time.
"""


def pick_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """The device of that name; `auto` prefers CUDA, then MPS, then the CPU.

    On CUDA it also lets cuDNN, for the process, compute fp32 in fp32, always by the same kernels.

    Args:
        name: `auto`, or torch's name of a device.
        local_rank: which of several equal devices, when the name does not say.

    Raises:
        UserError: a name torch does not know, or a device this machine does not have.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local_rank % max(1, torch.cuda.device_count()))
        torch.zeros(1, device=device)
    except torch.OutOfMemoryError:
        raise  # a full device is no mistake of the one who names it
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"`device`: found {name!r}, which this machine cannot use; {reason}"
        ) from error
    if device.type == "cuda":
        # By default cuDNN rounds the operands of convolutions to 10 bits, which moved LPIPS by 1e-3
        # of its value on an H100, and may choose kernels that add up in any order, so that a
        # resumed training would not be the one never interrupted. Speed is to be had by bf16.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return device


def describe(device: torch.device) -> str:
    """The device in words, for logs."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"{device} ({counted(torch.get_num_threads(), 'thread')})"
    return str(device)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Mixed precision of `fp32` (none), `bf16` or `fp16` on this device."""
    if precision == "fp32":
        return contextlib.nullcontext()
    # A call uses each weight once, and a CUDA graph would read what the cache has let go.
    return torch.autocast(device.type, dtype=DTYPES[precision], cache_enabled=False)


def prepare(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device, in the memory layout that its convolutions are fastest in."""
    network.to(device)
    if any(isinstance(module, nn.Conv2d) for module in network.modules()):
        network.to(memory_format=torch.channels_last)
    return network


def best_rows(values: int, device: torch.device, precision: str) -> int:
    """Rows that a network call is fastest with, for each row.

    On a CPU these are few enough for activations, of so many `values` in a row at the full size, to
    stay in its caches; on CUDA a power of two that leaves most of the memory free.
    """
    if device.type == "cuda":
        rows = int(CUDA_SHARE * total_memory(device)) // (CUDA_BYTES * values)
        return max(LEAST_ROWS, min(MOST_CUDA_ROWS, 2 ** (max(1, rows).bit_length() - 1)))
    if device.type != "cpu":
        return MOST_ROWS
    cached = torch.get_num_threads() * CACHED_BYTES // (values * DTYPES[precision].itemsize)
    return max(LEAST_ROWS, min(MOST_ROWS, cached))


def total_memory(device: torch.device) -> int:
    """Bytes of a CUDA device's memory."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def steady_rows(device: torch.device) -> int:
    """Rows from which on a row's result does not depend on how many others there are.

    On a CPU oneDNN and MKL took other kernels for fewer than six rows a thread, which moved fp32
    outputs by 1e-6.
    """
    return 8 * torch.get_num_threads() if device.type == "cpu" else 1


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def compiler_is_there(device: torch.device) -> bool:
    """Whether `torch.compile` can work.

    For a CPU it needs a C++ compiler; for CUDA, whose launchers are built for this Python, one of C
    and Python's headers; MPS is not tried.
    """
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl"))
    if device.type != "cuda" or platform.system() != "Linux":
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return compiler is not None and headers.exists()


def inductor_settings(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """How torch's compiler makes and calls a network whose weights stay, without gradients.

    On a CPU its kernels are called from C++, which took a twentieth less time than from Python.
    `torch.compile` takes these settings as options, too, but reads them too late for `freezing`.
    """
    # As constants the weights are cast and laid out for the matrix unit once, not every call.
    settings: dict[str, object] = {"freezing": True}
    if device.type == "cpu":
        settings["cpp.enable_floating_point_contract_flag"] = "fast"  # a·b + c is rounded once
        settings["cpp_wrapper"] = platform.system() == "Linux"  # not tried elsewhere
    patched: contextlib.AbstractContextManager[object] = inductor.patch(settings)
    return patched
