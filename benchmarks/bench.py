"""How fast the product is, beside the loops that a user of MONAI Generative writes.

`make bench` prepares the data, the checkpoint and the score tables, and calls this; the figures go
to the screen and to benchmarks/results.json. Times are medians of interleaved runs of this process.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evidence import three_calls
from hardware import machine
from models import fresh_model
from resources import first_batch, memory_growth
from scoring import exact, few_calls, growth
from training import train_speed

from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.model import Diffusion
from diffusion_ood.options import LoadingOptions
from diffusion_ood.runtime.files import write_json
from diffusion_ood.trajectories.grid import TimeGrid

# A figure of results.json, whether more or less is better, and what is aimed at.
GOALS = (
    ("exact_speedup.small", ">=", 2.0),
    ("exact_speedup.tiny", ">=", 2.0),
    ("budget_50.speedup", ">=", 40),
    ("budget_50.auroc_drop", "<=", 0),
    ("budget_10.speedup", ">=", 150),
    ("budget_10.auroc_drop", "<=", 1),
    ("budget_3.speedup", ">=", 500),
    ("peak_share.small", ">=", 0.75),
    ("train_speedup.tiny", ">=", 1.8),
    ("train_speedup.small", ">=", 1.8),
    ("first_batch_warm_s", "<=", 10),
    ("memory_growth", "<=", 1.5),
)


def main() -> None:
    """Measure everything, print the table and write results.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="output_dir of the bench's runs")
    parser.add_argument("--data", type=Path, required=True, help="data_root of the bench")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved runs of each pair")
    arguments = parser.parse_args()
    results = measure(arguments.runs, arguments.data / "data_splits", arguments.repeats)
    path = Path(__file__).parent / "results.json"
    write_json(path, results)
    print(*pairs(results), "", *others(results), "", *table(results), sep="\n")
    print(f"\neverything measured: {path}")


def measure(runs: Path, splits: Path, repeats: int) -> dict[str, Any]:
    """Everything that goes into results.json."""
    tiny = Diffusion.load(runs / "fashionmnist" / "checkpoint_best.pth")
    image_options = tiny.image_options
    images = open_images(
        read_split(splits / "FashionMNIST_test.csv"), image_options, LoadingOptions()
    )
    small = fresh_model("small")
    results: dict[str, Any] = {"machine": machine()}
    # small is sixteen times the work of tiny: fewer of its calls are as well measured. Over fewer
    # images of tiny the rank correlations would hang on the places of a few neighbours.
    scoring = {
        "tiny": exact(tiny, images, TimeGrid(1000, 100, 16), repeats, count=32, compared=128),
        "small": exact(small, images, TimeGrid(1000, 20, 5), repeats, count=16, compared=16),
    }
    results["exact"] = scoring
    results["exact_speedup"] = {name: figures["speedup"] for name, figures in scoring.items()}
    results["peak_share"] = {name: figures.pop("peak_share") for name, figures in scoring.items()}
    results |= few_calls(tiny, images, (50, 10), runs, repeats)
    results["budget_3"] = three_calls(tiny, images, repeats)
    training = {name: train_speed(name, images, repeats) for name in ("tiny", "small")}
    results["training"] = training
    results["train_speedup"] = {name: figures["speedup"] for name, figures in training.items()}
    results |= first_batch(splits / "FashionMNIST_train.csv", image_options)
    results |= memory_growth(runs, splits)
    return results | {"growth": growth(tiny, images)}


def pairs(results: Mapping[str, Any]) -> Iterator[str]:
    """Every reference beside ours, medians with the spread, a line each."""
    row = "{:<32}{:>34}{:>34}{:>8}".format
    yield row("", "reference", "ours", "ratio")
    for name, found in results["exact"].items():
        what = f"{name}: {found['images']} images, {found['calls_per_image']} calls"
        yield row(what, found["reference"], found["ours"], f"{found['speedup']:.1f}")
    for budget in (50, 10):
        found = results[f"budget_{budget}"]
        what = f"tiny: {found['images']} images, {budget} calls"
        yield row(what, found["reference"], found["ours"], f"{found['speedup']:.0f}")
        theirs, ours = found["auroc_reference"]["(mean)"], found["auroc"]["(mean)"]
        yield row("  mean AUROC, %", f"{theirs:.1f}", f"{ours:.1f}", "")
    found = results["budget_3"]
    what = f"tiny: {found['images']} and {found['images_ours']} images, joined by 3 calls"
    yield row(what, found["reference"], found["ours"], f"{found['speedup']:.0f}")
    for name, found in results["training"].items():
        yield row(
            f"{name}: training, images a second",
            f"{found['reference_images_per_s']:.1f}",
            f"{found['ours_images_per_s']:.1f}",
            f"{found['speedup']:.1f}",
        )


def others(results: Mapping[str, Any]) -> Iterator[str]:
    """What was measured of ours alone, a line each."""
    for name, found in results["exact"].items():
        best = max(found["peak_gflops"].values())
        yield f"{name}: {found['gflops']:.0f} GFLOP/s; the machine's best in bf16 {best:.0f}"
        yield f"{name}: compiling {found['compile_s']:.0f} s"
        yield (
            f"{name}: fp32 off by {found['fp32_largest_relative_difference']:.1e} at most; "
            f"smallest rank correlation of bf16 over {found['images_compared']} images "
            f"{found['bf16_smallest_spearman']:.4f} by DDIM, "
            f"{found['bf16_smallest_spearman_plms']:.4f} by PLMS"
        )
    yield (
        f"first batch of 57,000 images: {results['first_batch_cold_s']:.1f} s cold, "
        f"{results['first_batch_warm_s']:.1f} s warm"
    )
    for count, mib in results["memory_mib"].items():
        yield f"peak memory of reconstruct.py on {int(count):,} images: {mib:,.0f} MiB"
    for name, factor in results["growth"].items():
        yield f"time with twice the {name.replace('_', ' ')}: {factor:.1f} times"


def table(results: Mapping[str, Any]) -> Iterator[str]:
    """The figures that are aimed at, a line each."""
    yield f"{'figure':<28}{'measured':>10}   goal"
    for name, better, goal in GOALS:
        value: Any = results
        for key in name.split("."):
            value = value[key]
        met = value >= goal if better == ">=" else value <= goal
        yield f"{name:<28}{value:>10.3g}   {better} {goal:g}{'' if met else '   missed'}"


if __name__ == "__main__":
    main()
