"""AUROC against network calls an image, from finished runs on the same images.

    python benchmarks/frontier.py --title FashionMNIST --output docs/images/frontier.png \
        runs/fashionmnist_full runs/fashionmnist_budget10 runs/fashionmnist_budget50

The first run is the reference. Prints a Markdown table with a row for each run and way of weighting
its levels, as far as its tables allow it, and draws the picture. Intervals are a paired bootstrap
over the images, for the difference of the means too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffusion_ood.data.splits import PATCHED
from diffusion_ood.detection.assessment import assess
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.metrics import weighted_metrics
from diffusion_ood.options import DetectOptions

mpl.use("Agg")  # draws files, and needs no window
import matplotlib.pyplot as plt

RESAMPLES, SEED = 2000, 0
Weights = Literal["equal", "highest", "patched"]


@dataclass(frozen=True)
class Point:
    """A run, its levels weighted in one way.

    Attributes:
        calls: network calls an image.
        plan: how they were spent, in words.
        weights: of the levels.
        auroc: of each OOD set and of their mean, `(1 + RESAMPLES,)` in percent: first of the
            images as they are, then of resamples, the same ones for all points.
    """

    calls: int
    plan: str
    weights: Weights
    auroc: dict[str, NDArray[np.float64]]


def main() -> None:
    """Read the runs, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--first_n", type=int, default=None, help="images of each set")
    arguments = parser.parse_args()
    points = [
        read_point(run, weights, arguments.first_n)
        for run in arguments.runs
        for weights in weightings(run)
    ]
    print(table(points))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw(points, arguments.title, arguments.output)


def weightings(run_dir: Path) -> tuple[Weights, ...]:
    """The ways that the run's tables allow."""
    patched = table_path(run_dir / "ood", PATCHED).exists()
    return ("equal", "highest", "patched") if patched else ("equal", "highest")


def read_point(run_dir: Path, weights: Weights, first_n: int | None) -> Point:
    """What one run found under these weights, and what it cost."""
    facts = json.loads((run_dir / "ood" / "results_in.json").read_text())
    results = assess(run_dir / "ood", DetectOptions(level_weights=weights, n_bootstrap=0))
    scores = {name: frame[results.primary][:first_n] for name, frame in results.scores.items()}
    return Point(
        calls=facts["facts"]["calls_per_image"],
        plan=plan(facts["fingerprint"]),
        weights=weights,
        auroc=resampled(scores),
    )


def plan(fingerprint: dict[str, list[int] | int | str | None]) -> str:
    """How the calls were spent, in words."""
    starts = fingerprint["starts"]
    assert isinstance(starts, list)
    if fingerprint["budget"] is None:
        return f"{len(starts)} levels, {str(fingerprint['sampler']).upper()} down the grid"
    steps = fingerprint["budget_steps"]
    return f"{len(starts)} levels, " + ("straight" if steps == 1 else f"{steps} steps")


def resampled(scores: dict[str, pd.Series]) -> dict[str, NDArray[np.float64]]:
    """AUROC of every OOD set and of their mean, of the images and of resamples of them.

    Args:
        scores: of the images of "val", "in" and each OOD set.
    """
    rng = np.random.default_rng(SEED)  # the same draws for every run, so that runs can be paired

    def weights(n: int) -> NDArray[np.float64]:
        return np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)])

    s_in = scores["in"].to_numpy()
    in_weights = weights(len(s_in))
    found = {
        name: 100 * weighted_metrics(s_in, s.to_numpy(), in_weights, weights(len(s)))["auroc"]
        for name, s in sorted(scores.items())
        if name not in ("val", "in")
    }
    return found | {"mean": np.mean(list(found.values()), axis=0)}


def show(values: NDArray[np.float64]) -> str:
    """`97.9 [96.8, 98.8]`."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:.1f} [{low:.1f}, {high:.1f}]"


def table(points: list[Point]) -> str:
    """A row a point and a column a set, as Markdown; last, by how much the reference is better."""
    reference = points[0]
    sets = list(reference.auroc)
    lines = [f"| calls | plan | weights | {' | '.join(sets)} | below the reference |"]
    lines.append("|---" * (len(sets) + 4) + "|")
    for point in points:
        drop = reference.auroc["mean"] - point.auroc["mean"]
        cells = [str(point.calls), point.plan, point.weights, *map(show, point.auroc.values())]
        cells.append("" if point is reference else show(drop))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(points: list[Point], title: str, output: Path) -> None:
    """A panel a set: AUROC against calls with its interval, a line a way of spending them."""
    sets = list(points[0].auroc)
    figure, panels = plt.subplots(1, len(sets), figsize=(3.6 * len(sets), 3.8), squeeze=False)
    kinds: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.calls):
        way = point.plan.split(", ")[1]
        if "steps" not in way:  # plans of several steps differ in how many: the table has them
            kinds.setdefault(f"{way}, {point.weights} weights", []).append(point)
    for panel, name in zip(panels[0], sets, strict=True):
        for k, (kind, chosen) in enumerate(sorted(kinds.items())):
            values = np.array([point.auroc[name][0] for point in chosen])
            ends = [np.quantile(point.auroc[name][1:], (0.025, 0.975)) for point in chosen]
            panel.errorbar(
                [point.calls * 1.05 ** (k - len(kinds) / 2) for point in chosen],
                values,
                yerr=np.abs(np.array(ends).T - values),
                fmt="o-" if "straight" in kind else "s--",
                color=f"C{k}",
                markersize=4,
                capsize=2,
                label=kind,
            )
        panel.set(xscale="log", title=name, xlabel="network calls an image")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("AUROC, %")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(kinds), fontsize=8, frameon=False)
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
