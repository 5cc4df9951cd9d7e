r"""Several detectors side by side: the AUROC of each on every set, and which has the best mean.

    python examples/side_by_side.py side_by_side.csv voxels=runs/voxels/ood/joined \
        latents=runs/latents/ood/joined autoencoder=runs/latents/ood/autoencoder

The folders are those of decisions of ood_detection.py. Sets of faults, made by
`get_datasets.py --corrupt`, hold the in-distribution images once more; means over them and
differences of these are therefore resampled by image, with all of its copies.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffusion_ood import cli
from diffusion_ood.detection.metrics import evaluate, weighted_metrics
from diffusion_ood.errors import UserError

RESAMPLES, SEED = 1000, 0
Scores = dict[str, NDArray[np.float64]]


def main(target: str, *folders: str) -> None:
    """Print the table, write it to a CSV file, and say which detector is the best."""
    detectors = {name: _scores(Path(folder)) for name, folder in (f.split("=") for f in folders)}
    sets = [list(scores) for scores in detectors.values()]
    if any(found != sets[0] for found in sets):
        raise UserError(f"found decisions on the sets {sets}, expected the same of all detectors")
    rows = [
        {"set": of_set, "detector": name, **_auroc(scores["in"], scores[of_set])}
        for name, scores in detectors.items()
        for of_set in sets[0][1:]
    ]
    means = {name: _means(scores) for name, scores in detectors.items()}
    rows += [
        {"set": "(mean of faults)", "detector": name, **_interval(m)} for name, m in means.items()
    ]
    table = pd.DataFrame(rows)
    table.to_csv(target, index=False)
    table["text"] = [_text(row) for row in rows]
    print(table.pivot_table("text", "set", "detector", "first", sort=False).to_string())
    best, *others = sorted(means, key=lambda name: -means[name][0])
    print(f"\nBest by the mean of the faults: {best}, with an AUROC that is higher than that of")
    for other in others:
        print(f"{other} by {_text(_interval(means[best] - means[other]))}")
    print(f"written: {target}")


def _scores(folder: Path) -> Scores:
    """The scores of each set, the in-distribution images first."""
    files = {path.stem.removeprefix("decisions_"): path for path in folder.glob("decisions_*.csv")}
    if "in" not in files:
        raise UserError(f"{folder}: found no decisions_in.csv, expected one of ood_detection.py")
    return {
        name: pd.read_csv(files[name])["score"].to_numpy(np.float64)
        for name in ["in", *sorted(files.keys() - {"in"})]
    }


def _auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> dict[str, Any]:
    found = evaluate(inside, outside, seed=SEED)["auroc"]
    return {"auroc": found.value, "low": found.low, "high": found.high}


def _means(scores: Scores) -> NDArray[np.float64]:
    """The mean AUROC of the faults, then of resamples, which are the same for all detectors."""
    number = len(scores["in"])
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, number)), drawn])
    faults = [found for name, found in scores.items() if "_test_" in name]
    if not faults or any(len(found) != number for found in faults):
        raise UserError("found no set of faults with a copy of every in-distribution image")
    aurocs = [weighted_metrics(scores["in"], one, weights, weights)["auroc"] for one in faults]
    return np.mean(aurocs, axis=0)


def _interval(resampled: NDArray[np.float64]) -> dict[str, Any]:
    low, high = np.quantile(resampled[1:], [0.025, 0.975])
    return {"auroc": float(resampled[0]), "low": float(low), "high": float(high)}


def _text(row: Mapping[str, Any]) -> str:
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * row[key] for key in ("auroc", "low", "high")))


if __name__ == "__main__":
    cli.run(lambda: main(*sys.argv[1:]))
