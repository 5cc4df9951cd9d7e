"""Scoring: exact and by few calls against the reference loop, and how its cost grows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hardware import Peak, peaks
from models import flops_per_call, lpips_package
from ours import SEED, OurScorer, down
from reference import ReferenceScorer
from scipy.stats import spearmanr
from timing import Times, interleaved, ratio
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.grid import TimeGrid


def exact(
    model: Diffusion,
    images: ImageSet,
    grid: TimeGrid,
    repeats: int,
    *,
    count: int,
    compared: int,
) -> dict[str, Any]:
    """The same trajectories as the reference loop's, in full batches, bf16 and compiled.

    Args:
        model: the diffusion model.
        images: some of them are scored.
        grid: the trajectories.
        repeats: interleaved runs.
        count: images of a timed run.
        compared: images whose scores are compared.
    """
    pixels, keys = images.batch(range(compared)), list(images.split.images[:compared])
    theirs = ReferenceScorer(model, grid.starts, grid.stride, lpips_package())
    plain = OurScorer(model, down(grid), compiled=False, precision="fp32")
    ours = OurScorer(model, down(grid), compiled=True, precision="bf16")
    begin = time.perf_counter()
    ours(pixels[:count], keys[:count])
    first_s = time.perf_counter() - begin
    expected, in_fp32, in_bf16 = theirs(pixels, keys, SEED), plain(pixels, keys), ours(pixels, keys)
    plain.method = ours.method = down(grid, "plms")  # the default of reconstruct.py
    plms_in_fp32, plms_in_bf16 = plain(pixels, keys), ours(pixels, keys)
    plain.method = ours.method = down(grid)
    pixels, keys = pixels[:count], keys[:count]
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
        "calls_per_image": ours.method.calls(model),
        "rows_a_call": ours.evaluator.max_batch,
        **peak_share(model, ours, pixels, keys, repeats),
        "images_compared": compared,
        "fp32_largest_relative_difference": ((in_fp32 - expected) / expected).abs().max().item(),
        "bf16_smallest_spearman": smallest_spearman(in_bf16, expected),
        "bf16_smallest_spearman_plms": smallest_spearman(plms_in_bf16, plms_in_fp32),
    }


def peak_share(
    model: Diffusion, ours: OurScorer, pixels: Tensor, keys: list[str], repeats: int
) -> dict[str, Any]:
    """The speed of the exact path beside the best that the machine does in the same seconds.

    In operations of the network as it is defined, of which our enlargements take 4/9.
    """
    ours.evaluator.beside = best = Peak(peaks(model, ours.evaluator.max_batch))
    begin = time.perf_counter()
    for _ in range(repeats):
        ours(pixels, keys)
    seconds = time.perf_counter() - begin - best.seconds
    ours.evaluator.beside = None
    calls = repeats * len(keys) * ours.method.calls(model)
    own = calls * flops_per_call(model) / seconds / 1e9
    return {
        "gflops": own,
        "peak_gflops": best.gflops,
        "peak_share": own / max(best.gflops.values()),
    }


def smallest_spearman(found: Tensor, expected: Tensor) -> float:
    """The smallest rank correlation over start points and scores of `(B, starts, scores)`."""
    columns = zip(found.flatten(1).T, expected.flatten(1).T, strict=True)
    return min(float(spearmanr(a, b).statistic) for a, b in columns)


def few_calls(
    model: Diffusion, images: ImageSet, budgets: Sequence[int], runs: Path, repeats: int
) -> dict[str, Any]:
    """Budgets of calls against the reference at skip factor 4, LPIPS included, and all AUROCs.

    Args:
        model: the diffusion model.
        images: some of them are scored.
        budgets: network calls an image.
        runs: where fashionmnist_full and fashionmnist_budget<N> are finished runs.
        repeats: interleaved runs.
    """
    count = 16
    pixels, keys = images.batch(range(count)), list(images.split.images[:count])
    grid = TimeGrid(1000, 100, 4)
    theirs = ReferenceScorer(model, grid.starts, grid.stride, lpips_package())
    scorers = {
        budget: OurScorer(
            model, Reconstruction(budget=budget, seed=SEED), compiled=True, precision="bf16"
        )
        for budget in budgets
    }
    pairs: dict[str, Callable[[], Tensor]] = {"reference": lambda: theirs(pixels, keys, SEED)}
    for budget, ours in scorers.items():
        pairs[str(budget)] = lambda ours=ours: ours(pixels, keys)  # type: ignore[misc] # a default binds it
    times = interleaved(pairs, repeats)
    full = mean_auroc(runs / "fashionmnist_full")
    found = {}
    for budget in budgets:
        few = mean_auroc(runs / f"fashionmnist_budget{budget}")
        found[f"budget_{budget}"] = {
            "speedup": ratio(times, "reference", str(budget)),
            "reference": str(times["reference"]),
            "ours": str(times[str(budget)]),
            "images": count,
            "auroc": few,
            "auroc_reference": full,
            "auroc_drop": full["(mean)"] - few["(mean)"],
        }
    return found


def mean_auroc(run_dir: Path) -> dict[str, float]:
    """AUROC of the headline for every set of a finished run, in percent."""
    metrics = json.loads((run_dir / "ood" / "metrics.json").read_text())
    headline = metrics["targets"][metrics["headline"]]
    return {name: 100 * values["auroc"]["value"] for name, values in headline.items()}


def growth(model: Diffusion, images: ImageSet) -> dict[str, float]:
    """How the time of the eager exact path grows when one thing doubles."""
    pixels, keys = images.batch(range(16)), list(images.split.images[:16])
    larger = torch.nn.functional.interpolate(pixels, scale_factor=2)

    def scorer(grid: TimeGrid, x: Tensor, names: list[str]) -> Callable[[], Tensor]:
        run = OurScorer(model, down(grid), compiled=False, precision="fp32")
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
