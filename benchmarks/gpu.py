"""How fast a GPU is by our loops, beside the loops that a user of MONAI Generative writes.

`make bench-gpu` needs no data and no network. What matters most is measured first, and everything
is kept in `gpu.json` as soon as it is measured. LPIPS takes part on both sides where AlexNet's
weights are in torch's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_agreement import agreement
from gpu_cases import AIMED, Case, How, Part, order, quick_order
from gpu_device import described, found_gpu
from gpu_measure import Bench, failure, measured, within
from gpu_ours import fitted
from gpu_peaks import peaks
from gpu_report import aims, figures, others, table
from models import fresh_model

from diffusion_ood.detector import Detector
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.runtime.device import pick_device
from diffusion_ood.runtime.files import write_json
from diffusion_ood.trajectories.evaluator import Evaluator

RESERVE_S = 10.0  # in which the last part is wound up
LEAST_S = 15.0  # with less time no part is begun
COLD_STARTS = 2


@dataclass(frozen=True)
class Size:
    """How much is measured: all, or a little of everything in seconds.

    Attributes:
        parts: what is measured.
        peaks: the arguments of `peaks` after the device.
        agreement: the arguments of `agreement` after the file.
        cold: the model whose detector is loaded by a fresh process.
        run_s, runs: see `Bench`.
    """

    parts: list[Part]
    peaks: tuple[int, int, list[tuple[str, tuple[int, ...], int]]]
    agreement: tuple[str, int, int]
    cold: tuple[str, tuple[int, ...]]
    run_s: float
    runs: int


FULL = Size(
    order(),
    (8192, 4096, [("small", (32, 32), 256), ("big", (64, 64), 64)]),
    agreement=("tiny", 400, 256),
    cold=("small", (32, 32)),
    run_s=0.2,
    runs=5,
)
QUICK = Size(
    quick_order(),
    (256, 8, [("micro", (8, 8), 4)]),
    agreement=("micro", 1, 8),
    cold=("micro", (8, 8)),
    run_s=0.001,
    runs=1,
)


Job = tuple[str, Callable[[float], None]]
"""What it measures, and what does so within so many seconds."""


def main() -> None:
    """Measure within the time, keep what is measured, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", help="by default this machine's GPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="when the run ends")
    parser.add_argument("--quick", action="store_true", help="a little of everything, in seconds")
    output = Path(__file__).with_name("gpu.json")
    parser.add_argument("--output", type=Path, default=output, help="file of the results")
    arguments = parser.parse_args()
    end = time.perf_counter() + 60 * arguments.minutes
    if arguments.device is None and found_gpu() is None:
        print("error: found no GPU, expected one, or `--device` to say what else", file=sys.stderr)
        raise SystemExit(2)
    device = pick_device(arguments.device or "cuda")
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # or it would go on without a word
    # A compiler that was given up may still write into it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"  # nothing is compiled yet
        size = QUICK if arguments.quick else FULL
        results = run(device, size, Path(folder), arguments.output, end)
    print(*table(results["rows"]), "", *others(results), "", *aims(figures(results)), sep="\n")
    print(f"\neverything measured: {arguments.output}")


def run(device: torch.device, size: Size, folder: Path, output: Path, end: float) -> dict[str, Any]:
    """All results, which are written to `output` after each job; no job is begun near the end.

    Args:
        device: that is measured.
        size: how much.
        folder: for files on the way.
        output: of the results.
        end: on the clock of `time.perf_counter`.
    """
    results: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": described(device),
        "lpips": find_alexnet_features() is not None,
        "peaks": peaks(device, *size.peaks),
        "rows": [],
        "left_out": [],
    }
    for name, job in jobs(device, size, folder, results):
        left = end - time.perf_counter() - RESERVE_S
        if left < LEAST_S:
            results["left_out"].append(name)
        else:
            print(f"{left:.0f} s left: {name}", flush=True)
            job(left)
        write_json(output, results)
    return results


def jobs(device: torch.device, size: Size, folder: Path, results: dict[str, Any]) -> list[Job]:
    """What is to be measured, in this order."""
    bench = Bench(device, results["peaks"], size.run_s, size.runs)

    def rows(case: Case, hows: tuple[How, ...], seconds: float) -> None:
        results["rows"] += measured(case, hows, bench, seconds)

    def beside(name: str, measure: Callable[[], Any], seconds: float) -> None:
        def keep() -> None:
            with within(seconds):
                results[name] = measure()

        if reason := failure(keep):
            results[name] = {"error": reason}

    alike = partial(agreement, device, folder / "digits.detector", *size.agreement)
    cold = partial(cold_starts, device, folder / "cold.detector", *size.cold)
    found: list[Job] = [(str(case), partial(rows, case, hows)) for case, hows in size.parts]
    found[AIMED:AIMED] = [
        ("agreement", partial(beside, "agreement", alike)),
        ("cold start", partial(beside, "cold_start", cold)),
    ]
    return found


def cold_starts(
    device: torch.device, file: Path, model_type: str, sides: tuple[int, ...]
) -> list[dict[str, float]]:
    """Milliseconds of fresh processes to their first decision, by a detector in bf16."""
    model = fresh_model(model_type, sides)
    Detector(fitted(model, device), Evaluator(model, device, precision="bf16")).save(file)
    script = Path(__file__).with_name("gpu_cold.py")
    found = []
    for _ in range(COLD_STARTS):
        begin = time.perf_counter()
        command = [sys.executable, str(script), str(file), str(device)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        whole = {"process_ms": 1000 * (time.perf_counter() - begin)}
        found.append({**json.loads(done.stdout.splitlines()[-1]), **whole})
    return found


if __name__ == "__main__":
    main()
