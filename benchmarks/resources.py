"""Time to the first batch, and memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from diffusion_ood.data.loaders import image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.options import ImageOptions, LoadingOptions


def first_batch(split: Path, options: ImageOptions) -> dict[str, float]:
    """Seconds to the first training batch of 57,000 images, unpacked and packed."""

    def open_first() -> float:
        begin = time.perf_counter()
        images = open_images(read_split(split), options, LoadingOptions(), progress=False)
        next(image_batches(images, [list(range(128))], 0))
        return time.perf_counter() - begin

    shutil.rmtree(split.parent / ".cache", ignore_errors=True)
    return {"first_batch_cold_s": open_first(), "first_batch_warm_s": open_first()}


def memory_growth(runs: Path, splits: Path) -> dict[str, Any]:
    """Peak memory of a whole reconstruct process, 10,000 images over 1,000."""
    peaks = {}
    for count in (1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "reconstruct.py", f"--output_dir={folder}", "--model_name=m"]
            command += [f"--eval_checkpoint={runs / 'fashionmnist' / 'checkpoint_best.pth'}"]
            command += [f"--in_ids={splits / 'FashionMNIST_test.csv'}", f"--first_n={count}"]
            command += ["--run_val=0", "--run_out=0", "--budget=1", "--compile=off"]
            wrapper = (
                "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
                "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            done = subprocess.run(
                [sys.executable, "-c", wrapper, *command],
                check=True,
                capture_output=True,
                text=True,
            )
            peaks[count] = int(done.stdout) / 1024
    return {
        "memory_mib": {str(count): peak for count, peak in peaks.items()},
        "memory_growth": peaks[10_000] / peaks[1_000],
    }
