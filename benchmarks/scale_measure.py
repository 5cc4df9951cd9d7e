"""The rates that `scale.py` reckons with: those that one core of this machine can measure.

Computing is measured in CPU seconds, which other work on the same cores hardly moves, and waiting
in seconds by the clock. Networks have random weights: the time does not depend on them.
"""

from __future__ import annotations

import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from hardware import machine
from models import fresh_model
from PIL import Image
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from diffusion_ood import Detector
from diffusion_ood.data.inputs import Reader
from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.options import ImageOptions, ReconstructOptions
from diffusion_ood.screening.batch import consider
from diffusion_ood.screening.decisions import Decision, DecisionFile, begin, made
from diffusion_ood.screening.inputs import Item, gather
from diffusion_ood.screening.report import write_results
from diffusion_ood.screening.run import BATCH
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.noise import image_noise

CALLS, SHOWN = 10, 24
JOINED = ReconstructOptions(methods=("joined",), budget=CALLS)
GREY = ImageOptions(is_grayscale=True)
TIMES, REPEATED = 5, 20
UNITS = {
    "append_16": "s by the clock for 16 rows and fsync",
    "memory": "bytes an image of a job, in its first process",
    "network": "CPU s a row of a call",
    "start": "CPU s a process, loading and the report's pictures included",
}
"""Of other rates CPU seconds an image."""

Seconds = Iterator[tuple[str, float]]


def remeasure(path: Path) -> None:
    """Put what this machine measures in place of what the file of rates has of it."""
    torch.set_num_threads(1)
    rates = json.loads(path.read_text())
    for name, value in measure(100_000, 20_000):
        unit = UNITS.get(name, UNITS.get(name.split("_")[0], "CPU s an image"))
        here = machine()
        rates[name] = {
            "value": float(f"{value:.3g}"),
            "unit": unit,
            "machine": f"one core of {here['cpu']}, torch {here['torch']}",
            "source": f"scale.py --measure, {datetime.date.today()}",
        }
        print(f"{name}: {value:.3g} {unit}", flush=True)
    path.write_text(json.dumps(rates, indent=1) + "\n")


def measure(rows: int, files: int) -> Seconds:
    """Every rate by its name, in seconds, but for `memory`, which is in bytes an image.

    Args:
        rows: decisions that are joined and reported.
        files: that are listed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _reading(folder)
        yield from _networks()
        detector = new_detector(folder)
        yield "beside_network", _beside_network(detector)
        yield from _listing(folder / "list", files)
        yield from _table(folder / "table", detector, rows)
        yield from _memory(folder / "table", detector, rows)
        yield from _process(folder)


def cpu_seconds(run: Callable[[], object], times: int = TIMES) -> float:
    """The median CPU time of a call, after one that is not counted."""
    run()
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return statistics.median(found)


def new_detector(folder: Path) -> Detector:
    """A detector of ten calls by `tiny` on 28 × 28 pixels, saved as tiny.detector."""
    images = np.random.default_rng(0).integers(0, 256, (128, 28, 28), dtype=np.uint8)
    model = fresh_model("tiny")
    found = Detector.fit(model, images[:32], images[32:], options=JOINED, device="cpu")
    found.save(folder / "tiny.detector")
    return found


def write_images(folder: Path, count: int) -> list[Path]:
    """PNG files of 28 × 28 random pixels."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    paths = [folder / f"{number:07}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(path)
    return paths


def _reading(folder: Path) -> Seconds:
    photograph = np.kron(np.random.default_rng(2).integers(0, 256, (28, 28, 3)), np.ones((8, 8, 1)))
    Image.fromarray(photograph.astype(np.uint8)).save(folder / "224.jpg")
    Image.fromarray(photograph.astype(np.uint8)).save(folder / "224.png")
    volume = np.random.default_rng(3).integers(0, 256, (64, 64, 64)).astype(np.int16)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(folder / "64.nii.gz")
    (small,) = write_images(folder / "small", 1)
    of_volumes = ImageOptions(is_grayscale=True, spatial_dimension=3, intensity_range=(0.0, 255.0))
    cases = {
        "read_png_28": (Reader(GREY, (1, 28, 28)), small),
        "read_png_224": (Reader(ImageOptions(), (3, 224, 224)), folder / "224.png"),
        "read_jpeg_224": (Reader(ImageOptions(), (3, 224, 224)), folder / "224.jpg"),
        "read_nifti_64": (Reader(of_volumes, (1, 64, 64, 64)), folder / "64.nii.gz"),
    }
    for name, (reader, path) in cases.items():
        yield name, cpu_seconds(partial(_repeated, reader.read, path)) / REPEATED


def _repeated(read: Callable[[Path], object], path: Path) -> None:
    for _ in range(REPEATED):
        read(path)


def _networks() -> Seconds:
    """Of a row of a call; compiled in bf16, as `auto` decides for much work, and eager in fp32."""
    for side in (28, 32):
        for kind in ("tiny", "small"):
            for precision, compile in (("fp32", "off"), ("bf16", "on")):
                model = fresh_model(kind, (side, side))
                evaluator = Evaluator(model, "cpu", precision=precision, compile=compile)
                rows = evaluator.max_batch
                x, t = torch.randn(rows, *model.image_shape), torch.full((rows,), 500)
                seconds = cpu_seconds(partial(evaluator.eps, x, t))
                yield f"network_{kind}_{side}_{precision}", seconds / rows
    keys = [str(number) for number in range(100)]
    drawn = cpu_seconds(lambda: [image_noise((1, 28, 28), 2, key, 100) for key in keys])
    yield "noise_28", drawn / len(keys)
    lpips, images = PerceptualDifference(), torch.rand(BATCH, 1, 28, 28)
    with torch.inference_mode():
        reference = lpips.reference(images)
        yield "lpips_28", cpu_seconds(lambda: lpips(reference, images)) / BATCH


def _beside_network(detector: Detector) -> float:
    """Of an image: LPIPS, noise, features, decisions; all of `measure` but the network."""
    inside = [0.0]
    kind, pixels = type(detector.content.diffusion.network), torch.rand(BATCH, 1, 28, 28)

    def count(network: nn.Module, sign: int) -> None:
        if isinstance(network, kind):  # or one of its blocks
            inside[0] += sign * time.process_time()

    hooks = [
        register_module_forward_pre_hook(lambda network, _: count(network, -1)),
        register_module_forward_hook(lambda network, *_: count(network, 1)),
    ]
    detector.measure(pixels)
    found = []
    for _ in range(TIMES):
        inside[0], start = 0.0, time.process_time()
        detector.measure(pixels)
        found.append(time.process_time() - start - inside[0])
    for hook in hooks:
        hook.remove()
    return statistics.median(found) / BATCH


def _listing(folder: Path, files: int) -> Seconds:
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:07}.png").touch()
    yield "list_folder", cpu_seconds(lambda: gather([folder]), 3) / files
    split = folder.with_suffix(".csv")
    names = "".join(f"{folder}/{number:07}.png\n" for number in range(files))
    split.write_text(f"image\n{names}")
    yield "list_csv", cpu_seconds(lambda: gather([split]), 3) / files


def _table(folder: Path, detector: Detector, rows: int) -> Seconds:
    items = _items(rows)
    p = np.random.default_rng(4).integers(1, 34, rows) / 33
    decisions = [
        Decision(item.name, 1 / q, q, False, "denoising", 30.0, "", item.name[::-1] * 4)
        for item, q in zip(items, p.tolist(), strict=True)
    ]
    begin(folder, detector.digest)
    with DecisionFile(folder) as file:
        start = time.perf_counter()  # waiting for the disk counts here
        for k in range(0, 200 * BATCH, BATCH):
            file.append(decisions[k : k + BATCH])
        yield "append_16", (time.perf_counter() - start) / 200
        file.append(decisions[200 * BATCH :])

    def join() -> None:
        found = made(folder)
        batch = consider(detector, [found[item.name] for item in items], items)
        write_results(folder, detector, "mine", batch, items, num_shown=0)

    yield "join", cpu_seconds(join, 1) / rows


def _memory(folder: Path, detector: Detector, rows: int) -> Seconds:
    """What the decisions of `_table` and their images take, while they are considered."""
    tracemalloc.start()
    items, found = _items(rows), made(folder)
    consider(detector, [found[item.name] for item in items], items)
    yield "memory", tracemalloc.get_traced_memory()[1] / rows
    tracemalloc.stop()


def _items(count: int) -> list[Item]:
    return [Item(f"/data/{k:09}.png", Path(f"/data/{k:09}.png"), f"{k:09}") for k in range(count)]


def _process(folder: Path) -> Seconds:
    """A whole `screen` of few images beside what its images cost: starting, loading, reporting."""
    detector, images = folder / "tiny.detector", folder / "few"
    write_images(images, SHOWN)
    taken = screened(detector, images, folder / "screened")
    cost = Detector.load(detector, "cpu").measure
    of_images = cpu_seconds(lambda: cost(torch.rand(SHOWN, 1, 28, 28)))
    yield "start", taken.cpu - of_images


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock and of CPUs."""

    clock: float
    cpu: float


def screened(detector: Path, images: Path, output: Path, *flags: str, processes: int = 1) -> Taken:
    """A run of `diffusion-ood screen`, under torchrun where there are several processes."""
    code = "import sys; from diffusion_ood.console import run; sys.argv[0] = 'diffusion-ood'; run()"
    words = [sys.executable, "-c", code, "screen", str(detector), str(images)]
    if processes > 1:
        group = ["--standalone", f"--nproc_per_node={processes}", "--no_python"]
        words = [sys.executable, "-m", "torch.distributed.run", *group, *words]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words += [f"--output={output}", "--device=cpu", *flags]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    after, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(clock, cpu)
