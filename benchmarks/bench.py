"""How fast the product is, beside the loops that a user of MONAI Generative writes.

`make bench` prepares the data, the checkpoint and the score tables, and calls this; the figures go
to the screen and to benchmarks/results.json. Times are medians of interleaved runs of this process.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpips
import torch
from ours import OurScorer, our_training_step
from reference import ReferenceScorer, reference_training_step
from scipy.stats import spearmanr
from timing import Times, interleaved, ratio
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffusion_ood.commands.run_files import load_model
from diffusion_ood.data.loaders import ImageSet, image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.diffusion.model import DiffusionModel
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import DiffusionOptions, ImageOptions, LoadingOptions
from diffusion_ood.runtime.files import write_json
from diffusion_ood.runtime.imports import without_deprecation_notices
from diffusion_ood.trajectories.grid import BudgetGrid, TimeGrid, calls

SEED = 2
CPU = torch.device("cpu")


def main() -> None:
    """Measure everything and write results.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="output_dir of the bench's runs")
    parser.add_argument("--data", type=Path, required=True, help="data_root of the bench")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved runs of each pair")
    arguments = parser.parse_args()
    splits = arguments.data / "data_splits"
    tiny, image_options, _ = load_model(arguments.runs / "fashionmnist" / "checkpoint_best.pth")
    images = open_images(
        read_split(splits / "FashionMNIST_test.csv"), image_options, LoadingOptions()
    )
    small = fresh_model("small")
    results: dict[str, Any] = {"machine": machine()}
    peak = results["peak_gflops"] = peak_gflops()
    scoring = {
        name: exact(model, images, arguments.repeats)
        for name, model in (("tiny", tiny), ("small", small))
    }
    results["exact"] = scoring
    results["exact_speedup"] = {name: figures["speedup"] for name, figures in scoring.items()}
    results["peak_share"] = {
        name: figures["gflops"] / max(peak["matrix_product_bf16"], peak["convolution_bf16"])
        for name, figures in scoring.items()
    }
    for budget in (50, 10):
        results[f"budget_{budget}"] = few_calls(tiny, images, budget, arguments)
    training = {name: train_speed(name, images, arguments.repeats) for name in ("tiny", "small")}
    results["training"] = training
    results["train_speedup"] = {name: figures["speedup"] for name, figures in training.items()}
    results |= first_batch(splits / "FashionMNIST_train.csv", image_options)
    results |= memory_growth(arguments.runs, splits)
    results["growth"] = growth(tiny, images)
    write_json(Path(__file__).parent / "results.json", results)
    print(json.dumps(results, indent=2))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return {"cpu": model, "threads": torch.get_num_threads(), "torch": torch.__version__}


def fresh_model(model_type: str) -> DiffusionModel:
    """A model of random weights: the time does not depend on them."""
    torch.manual_seed(0)
    options = DiffusionOptions(
        model_type=model_type,  # type: ignore[arg-type] # one of the literals, by the callers above
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
    )
    model = DiffusionModel(options, (1, 28, 28))
    for parameter in model.network.parameters():  # MONAI zeroes the last convolutions
        torch.nn.init.normal_(parameter, std=0.02)
    model.network.eval()
    return model


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


def lpips_package() -> lpips.LPIPS:
    """The lpips package's own model, with AlexNet's weights."""
    features = find_alexnet_features()
    assert features is not None, "the bench needs the LPIPS weights"
    with without_deprecation_notices():
        model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    own = model.net.state_dict()
    for name in own:
        _, layer, kind = name.split(".")
        own[name] = features[f"features.{layer}.{kind}"]
    model.net.load_state_dict(own)
    return model


def flops_per_call(model: DiffusionModel) -> float:
    """Floating-point operations of one network call on one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(torch.zeros(1, *model.image_shape), torch.zeros(1))
    return float(counter.get_total_flops())


def exact(model: DiffusionModel, images: ImageSet, repeats: int) -> dict[str, Any]:
    """The same trajectories as the reference loop's, in full batches, bf16 and compiled."""
    grid = TimeGrid(1000, 100, 16)
    count = 32
    pixels, keys = images.batch(range(count)), list(images.split.images[:count])
    theirs = ReferenceScorer(model, grid.starts, grid.stride, lpips_package())
    plain = OurScorer(model, grid, count, compiled=False, precision="fp32")
    ours = OurScorer(model, grid, count, compiled=True, precision="bf16")
    begin = time.perf_counter()
    ours(pixels, keys)
    first_s = time.perf_counter() - begin
    expected, in_fp32, in_bf16 = theirs(pixels, keys, SEED), plain(pixels, keys), ours(pixels, keys)
    times = interleaved(
        {"reference": lambda: theirs(pixels, keys, SEED), "ours": lambda: ours(pixels, keys)},
        repeats,
    )
    return {
        "speedup": ratio(times, "reference", "ours"),
        "reference": str(times["reference"]),
        "ours": str(times["ours"]),
        "compile_s": first_s - times["ours"].median,
        "images": count,
        "calls_per_image": calls(grid),
        "gflops": flops_per_call(model) * calls(grid) * count / times["ours"].median / 1e9,
        "fp32_largest_relative_difference": ((in_fp32 - expected) / expected).abs().max().item(),
        "bf16_smallest_spearman": smallest_spearman(in_bf16, expected),
    }


def smallest_spearman(found: Tensor, expected: Tensor) -> float:
    """The smallest rank correlation over start points and scores of `(B, starts, scores)`."""
    columns = zip(found.flatten(1).T, expected.flatten(1).T, strict=True)
    return min(float(spearmanr(a, b).statistic) for a, b in columns)


def few_calls(
    model: DiffusionModel, images: ImageSet, budget: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """A budget of calls against the reference at skip factor 4, LPIPS included, and both AUROCs."""
    count = 32
    pixels, keys = images.batch(range(count)), list(images.split.images[:count])
    grid = TimeGrid(1000, 100, 4)
    theirs = ReferenceScorer(model, grid.starts, grid.stride, lpips_package())
    ours = OurScorer(
        model, BudgetGrid(model.schedule, budget), count, compiled=True, precision="bf16"
    )
    ours(pixels, keys)
    times = interleaved(
        {"reference": lambda: theirs(pixels, keys, SEED), "ours": lambda: ours(pixels, keys)},
        arguments.repeats,
    )
    full, few = (
        mean_auroc(arguments.runs / f"fashionmnist_{name}") for name in ("full", f"budget{budget}")
    )
    return {
        "speedup": ratio(times, "reference", "ours"),
        "reference": str(times["reference"]),
        "ours": str(times["ours"]),
        "images": count,
        "auroc": few,
        "auroc_reference": full,
        "auroc_drop": full["(mean)"] - few["(mean)"],
    }


def mean_auroc(run_dir: Path) -> dict[str, float]:
    """AUROC of the headline for every set of a finished run, in percent."""
    metrics = json.loads((run_dir / "ood" / "metrics.json").read_text())
    headline = metrics["targets"][metrics["headline"]]
    return {name: 100 * values["auroc"]["value"] for name, values in headline.items()}


def train_speed(model_type: str, images: ImageSet, repeats: int) -> dict[str, Any]:
    """Training images a second: eager fp32 against bf16 and compiled."""
    batch = 128 if model_type == "tiny" else 64
    pixels = images.batch(range(batch))
    theirs, ours = fresh_model(model_type), fresh_model(model_type)
    optimizer = torch.optim.Adam(theirs.network.parameters(), lr=1e-4)
    begin = time.perf_counter()
    step = our_training_step(ours, pixels)
    step()
    first_s = time.perf_counter() - begin
    theirs.network.train()
    times = interleaved(
        {
            "reference": lambda: reference_training_step(theirs, optimizer, pixels),
            "ours": step,
        },
        4 * repeats,
    )
    return {
        "speedup": ratio(times, "reference", "ours"),
        "reference_images_per_s": batch / times["reference"].median,
        "ours_images_per_s": batch / times["ours"].median,
        "batch": batch,
        "compile_s": first_s - times["ours"].median,
    }


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


def growth(model: DiffusionModel, images: ImageSet) -> dict[str, float]:
    """How the time of the eager exact path grows when one thing doubles."""
    pixels, keys = images.batch(range(16)), list(images.split.images[:16])
    larger = torch.nn.functional.interpolate(pixels, scale_factor=2)

    def scorer(grid: TimeGrid, x: Tensor, names: list[str]) -> Callable[[], Tensor]:
        run = OurScorer(model, grid, len(names), compiled=False, precision="fp32")
        return lambda: run(x, names)

    base = TimeGrid(1000, 50, 10)
    times: dict[str, Times] = interleaved(
        {
            "base": scorer(base, pixels[:8], keys[:8]),
            "images": scorer(base, pixels, keys),
            "calls": scorer(TimeGrid(1000, 100, 20), pixels[:8], keys[:8]),
            "start_points": scorer(TimeGrid(1000, 50, 5), pixels[:8], keys[:8]),
            "image_side": scorer(base, larger[:8], keys[:8]),
        },
        runs=3,
    )
    return {name: ratio(times, name, "base") for name in times if name != "base"}


if __name__ == "__main__":
    main()
