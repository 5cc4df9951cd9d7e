"""The simulation beside what `diffusion-ood screen` takes, on this machine and in these minutes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from scale import HOUR, Stage, simulate
from scale_measure import new_detector, screened, write_images

from diffusion_ood import Detector
from diffusion_ood.screening.run import BATCH

RUNS: dict[str, tuple[int, int, str, tuple[str, ...]]] = {
    "one process": (1, 1, "one job", ()),
    "two processes by torchrun": (2, 2, "parts", ()),
    "two workers by --ray": (1, 2, "one job", ("--ray=auto", "--ray_workers=2")),
}
"""Of each run its processes, workers, which way images are handed out, and flags."""


def validate(rates: Mapping[str, float], images: int) -> dict[str, dict[str, float]]:
    """Seconds of runs by the clock and of CPUs, predicted and taken.

    A worker's rates are measured before and after each run, and the seconds by the clock that one
    CPU second takes meanwhile, as other work shares the machine. The rest are those of the file.
    """
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector = new_detector(folder)
        paths = write_images(folder / "images", images)
        before = _now(detector, paths)
        for run, (processes, workers, way, flags) in RUNS.items():
            file, output = folder / "tiny.detector", folder / run.replace(" ", "_")
            taken = screened(file, folder / "images", output, *flags, processes=processes)
            after = _now(detector, paths)
            seconds, slowdown = (sum(pair) / 2 for pair in zip(before, after, strict=True))
            listing = processes * rates["list_folder"]  # each process lists
            work = [
                Stage("measuring", "core", slowdown * seconds),
                Stage("table", "table", rates["append_16"] / BATCH),
                Stage("listing", "main", slowdown * rates["list_folder"]),
                Stage("report", "main", slowdown * rates["join"]),
            ]
            of_machine = {**rates, "start": slowdown * rates["start"]}
            starts = workers + (workers > 1)  # and that of torchrun, or of Ray's driver
            found[run] = {
                "images": images,
                "clock_predicted": HOUR * simulate(work, of_machine, images, workers, way),
                "clock_taken": taken.clock,
                "cpu_predicted": starts * rates["start"]
                + images * (seconds + listing + rates["join"]),
                "cpu_taken": taken.cpu,
                "clock_a_cpu_second": slowdown,
            }
            before = after
    return {run: {k: round(v, 3) for k, v in of_run.items()} for run, of_run in found.items()}


def _now(detector: Detector, paths: list[Path]) -> tuple[float, float]:
    """CPU seconds an image of reading and measuring, and seconds by the clock in one of them."""
    clock, cpu = time.perf_counter(), time.process_time()
    for k in range(0, 10 * BATCH, BATCH):
        detector.measure(torch.stack([detector.reader.read(path) for path in paths[k : k + BATCH]]))
    cpu = time.process_time() - cpu
    return cpu / len(paths[: 10 * BATCH]), (time.perf_counter() - clock) / cpu
