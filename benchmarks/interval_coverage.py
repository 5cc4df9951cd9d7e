"""How often the 95 % intervals of the metrics hold the true value, by simulation.

    python benchmarks/interval_coverage.py

A population of 200,000 scores of each kind has true values that are known exactly. Sets of images
are drawn from it many times, with replacement, and the share of intervals that hold the true
value is counted. Writes the shares as JSON and prints them as Markdown tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from diffusion_ood.detection.metrics import METRICS, TITLES, evaluate, weighted_metrics

POPULATION = 200_000
AUROCS = (0.5, 0.7, 0.9, 0.95, 0.99, 1.0)
SIZES = tuple((n, n) for n in (1, 3, 10, 20, 50, 100, 250))
OTHER_AUROCS, OTHER_SIZES = (0.7, 0.9), ((10, 10), (50, 50), (250, 250))
UNEQUAL_SIZES = ((20, 200), (200, 20))
CLAIMED = (93.0, 99.0)  # percent

Floats = NDArray[np.float64]


class Case(NamedTuple):
    """What is drawn from: scores of this kind and AUROC, so many images of each set."""

    kind: str
    auroc: float
    n_in: int
    n_out: int


class Row(TypedDict):
    """What was found: `coverage` in percent and the mean `width` of each metric's intervals."""

    kind: str
    auroc: float
    n_in: int
    n_out: int
    true: dict[str, float]
    coverage: dict[str, float]
    width: dict[str, float]


def main() -> None:
    """Simulate all cases, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000, help="sets drawn of each case")
    parser.add_argument("--resamples", type=int, default=200, help="n_bootstrap")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    rows = []
    for case in cases():
        rows.append(simulate(case, arguments.draws, arguments.resamples))
        print(line(rows[-1]), flush=True)
    found = {"draws": arguments.draws, "resamples": arguments.resamples, "cases": rows}
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    inside = [row for row in rows if min(row["n_in"], row["n_out"]) >= 10 and row["auroc"] < 1]
    for name in METRICS:
        beyond = [row for row in inside if not CLAIMED[0] <= row["coverage"][name] <= CLAIMED[1]]
        print(f"{TITLES[name]}: {len(beyond)} of {len(inside)} cases outside {CLAIMED}")


def cases() -> Iterator[Case]:
    """Scores of two normal distributions; then other kinds and sets of unequal sizes."""
    for auroc in AUROCS:
        yield from (Case("normal", auroc, *sizes) for sizes in SIZES)
    for auroc in OTHER_AUROCS:
        yield from (Case("normal", auroc, *sizes) for sizes in UNEQUAL_SIZES)
        for kind in ("wider", "rounded", "tenth"):
            yield from (Case(kind, auroc, *sizes) for sizes in OTHER_SIZES)


def population(kind: str, auroc: float) -> tuple[Floats, Floats]:
    """The scores `(POPULATION,)` of all in-distribution and of all OOD images.

    Args:
        kind: "normal", both with deviation 1; "wider", OOD with 2; "rounded", to halves; "tenth",
            a tenth of the OOD images are distributed like the in-distribution ones.
        auroc: 1 puts the OOD images beyond all others.
    """
    normal: Floats = stats.norm.ppf((np.arange(POPULATION) + 0.5) / POPULATION)
    if auroc == 1:
        return normal, normal + 20
    if kind == "tenth":
        shift = np.sqrt(2) * stats.norm.ppf((auroc - 0.05) / 0.9)
        return normal, np.where(np.arange(POPULATION) % 10 == 0, normal, normal + shift)
    deviation = 2 if kind == "wider" else 1
    out = deviation * normal + np.hypot(1, deviation) * stats.norm.ppf(auroc)
    if kind == "rounded":
        return np.round(2 * normal) / 2, np.round(2 * out) / 2
    return normal, out


def simulate(case: Case, draws: int, resamples: int) -> Row:
    """Draw the sets of a case, each with a seed of its own."""
    everything = population(case.kind, case.auroc)
    ratio = (np.full((1, POPULATION), n / POPULATION) for n in (case.n_in, case.n_out))
    found = weighted_metrics(*everything, *ratio)
    true = {name: round(float(value[0]), 9) for name, value in found.items()}  # 1 is exactly 1
    rng = np.random.default_rng([case.n_in, case.n_out, round(1000 * case.auroc)])
    held, width = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0.0)
    for seed in range(draws):
        drawn = (rng.choice(s, n) for s, n in zip(everything, case[2:], strict=True))
        for name, interval in evaluate(*drawn, n_bootstrap=resamples, seed=seed).items():
            assert interval.low is not None
            assert interval.high is not None
            held[name] += interval.low <= true[name] <= interval.high
            width[name] += interval.high - interval.low
    return {
        "kind": case.kind,
        "auroc": case.auroc,
        "n_in": case.n_in,
        "n_out": case.n_out,
        "true": true,
        "coverage": {name: round(100 * held[name] / draws, 2) for name in METRICS},
        "width": {name: round(width[name] / draws, 4) for name in METRICS},
    }


def line(row: Row) -> str:
    """A row of a Markdown table: the case, and the coverage of each metric in percent."""
    sizes = f"{row['n_in']} | {row['n_out']}"
    cells = " | ".join(f"{row['coverage'][name]:.1f}" for name in METRICS)
    return f"| {row['kind']} | {row['auroc']} | {sizes} | {cells} |"


if __name__ == "__main__":
    main()
