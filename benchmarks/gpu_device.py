"""The device under `benchmarks/gpu.py`: the one file of it that tells CUDA from the CPU."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from hardware import machine
from torch.profiler import ProfilerActivity, profile

from diffusion_ood.runtime.device import synchronize

# A profiler that is taken down between its uses has crashed replays of CUDA graphs.
os.environ.setdefault("TEARDOWN_CUPTI", "0")
os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")


def found_gpu() -> torch.device | None:
    """The GPU of this machine; None where there is none."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else None


def described(device: torch.device) -> dict[str, Any]:
    """What the figures are measured on."""
    found: dict[str, Any] = {**machine(), "cores": os.cpu_count(), "device": "cpu"}
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    found |= {"device": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
    found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(query[0]):
        asked = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
        found["driver"] = asked.stdout.strip()
    return found


@contextlib.contextmanager
def as_shipped() -> Iterator[None]:
    """Let cuDNN be as torch sets it by default, TF32 included; the package sets it otherwise."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=True
    ):
        yield


@contextlib.contextmanager
def fastest() -> Iterator[None]:
    """Let cuDNN choose by trying."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=True
    ):
        yield


def forget_peak(device: torch.device) -> float:
    """Begin to watch memory; MiB that are taken already."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device) / 2**20


def peak_mib(device: torch.device) -> float:
    """The most memory that tensors took since `forget_peak`; on a CPU that of the process, ever."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated(device) / 2**20


def free_memory(device: torch.device) -> None:
    """Give back what no tensor holds."""
    gc.collect()  # such as a trainer, whose graph refers to it
    if device.type == "cuda":
        torch.cuda.empty_cache()


def busy_seconds(run: Callable[[], object], device: torch.device) -> float | None:
    """How long the device computes or copies while `run` runs; a CPU is taken to do so always.

    None where the profiler sees nothing of the device.
    """
    synchronize(device)
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    # Only the device's own activity is recorded: that of the CPU would slow the launches down.
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        synchronize(device)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
    ]
    return covered(spans) / 1e6 if spans else None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of what intervals cover together."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
