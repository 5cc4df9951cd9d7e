r"""Whether a detector keeps what it promises: false alarms, false discoveries, groups and streams.

    python benchmarks/kept_rates.py demo/digits.detector \
        demo/data/data_splits/MNIST5k_val.csv,demo/data/data_splits/MNIST5k_test.csv \
        demo/data/data_splits/MNIST5k_hflip_test.csv

The images of the first splits, none of which was trained on, are divided 20 times at random into
validation and new images; heads are fitted anew each time. The last split's are unusual.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.calibration.evidence import Evidence
from diffusion_ood.calibration.fdr import benjamini_hochberg
from diffusion_ood.calibration.groups import group_p_values
from diffusion_ood.calibration.monitor import Monitor
from diffusion_ood.detection.fitting import fit_evidence
from diffusion_ood.detector import Detector
from diffusion_ood.screening.inputs import gather
from diffusion_ood.screening.run import BATCH

SPLITS, NUM_VAL, RATE, FDR = 20, 400, 0.05, 0.1
GROUP, NEW_GROUPS, GROUP_P = 5, 10, "p-values of groups"  # few of a split, as they share one scale
USUAL, UNUSUAL = 100, 30  # images of a mixed batch
STREAMS, QUIET, TURNED = 200, 250, 250

Vector = NDArray[np.float64]


def main(detector: str, usual: str, unusual: str) -> None:
    """Print the figures as JSON."""
    found = Detector.load(detector)
    inside, outside = (_features(found, text) for text in (usual, unusual))
    directed = {method.name: method.directed for method in found.content.methods}
    rng = np.random.default_rng(1)
    kept: dict[str, list[float]] = {}
    for _ in tqdm(range(SPLITS), "splits", disable=None):
        order = rng.permutation(len(inside))
        val, new = inside.iloc[order[:NUM_VAL]], inside.iloc[order[NUM_VAL:]]
        joined, _ = fit_evidence(val.reset_index(drop=True), directed)
        scores, others = joined.score(new), joined.score(outside)
        for name, value in _one_split(rng, joined, scores, others):
            kept.setdefault(name, []).append(value)
    uniform = stats.kstest(kept[GROUP_P], "uniform").pvalue
    figures = {name: _summary(values) for name, values in kept.items()}
    figures[GROUP_P]["Kolmogorov-Smirnov"] = round(float(uniform), 4)
    print(json.dumps({"images": len(inside), "unusual": len(outside), **figures}, indent=1))


def _one_split(
    rng: np.random.Generator, joined: Evidence, scores: Vector, others: Vector
) -> Iterator[tuple[str, float]]:
    """Figures of one division into validation and new images, by their names."""
    yield "realised rate at 5 %", float((joined.p_values(scores) <= RATE).mean())
    batch = np.concatenate([rng.choice(scores, USUAL, False), rng.choice(others, UNUSUAL, False)])
    reported = benjamini_hochberg(joined.p_values(batch), FDR)
    yield "false share at fdr 0.1", float(reported[:USUAL].sum() / max(1, reported.sum()))
    yield "found at fdr 0.1", float(reported[USUAL:].mean())
    groups, val_groups = ([k // GROUP for k in range(n)] for n in (len(scores), NUM_VAL))
    p = group_p_values(scores, groups, joined.val_scores, val_groups)["p_value"].to_numpy()
    yield "rate of groups at 5 %", float((p <= RATE).mean())
    for value in rng.choice(p, NEW_GROUPS, replace=False).tolist():
        yield GROUP_P, value
    for _ in range(STREAMS // SPLITS):
        quiet = rng.permutation(scores)
        turned = [*quiet[:QUIET], *rng.choice(others, TURNED, False)]
        for name, stream in (("quiet", quiet), ("turned", turned)):
            monitor = Monitor(joined.val_scores)
            monitor.update(stream, [f"{k} {rng.random()}" for k in range(len(stream))])
            yield f"{name} streams that alarm", float(monitor.alarm())


def _features(detector: Detector, text: str) -> pd.DataFrame:
    """Everything that is measured of the images of splits between commas."""
    frames = []
    items = gather([Path(part) for part in text.split(",")])
    for start in tqdm(range(0, len(items), BATCH), "images", disable=None):
        pixels = [item.read(detector.reader) for item in items[start : start + BATCH]]
        frames.append(detector.features(torch.stack(pixels)))
    return pd.concat(frames, ignore_index=True)


def _summary(values: list[float]) -> dict[str, float]:
    numbers = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
    return {name: round(float(value), 4) for name, value in numbers.items()}


if __name__ == "__main__":
    cli.run(lambda: main(*sys.argv[1:]))
