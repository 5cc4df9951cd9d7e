"""AUROC against network calls an image, from finished runs.

    python benchmarks/frontier.py --title FashionMNIST --output docs/images/frontier.png \
        runs/fashionmnist_budget10 runs/fashionmnist_budget25 runs/fashionmnist_full

Prints a Markdown table and draws the picture; every run directory holds ood/metrics.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # draws files, and needs no window
import matplotlib.pyplot as plt

TARGETS = {"both": "mse + perceptual", "mse": "mse", "perceptual_difference": "perceptual"}


def main() -> None:
    """Read the runs, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    points = sorted(map(read_run, arguments.runs), key=lambda point: point["calls"])
    print(table(points))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw(points, arguments.title, arguments.output)


def read_run(run_dir: Path) -> dict[str, Any]:
    """What one run found, and what it cost."""
    metrics = json.loads((run_dir / "ood" / "metrics.json").read_text())
    companion = json.loads((run_dir / "ood" / "results_in.json").read_text())
    return {
        "calls": companion["facts"]["calls_per_image"],
        "plan": plan(companion["fingerprint"]),
        "targets": metrics["targets"],
        "images": metrics["num_images"],
    }


def plan(fingerprint: dict[str, Any]) -> str:
    """How the calls were spent, in words."""
    levels, steps = len(fingerprint["starts"]), fingerprint.get("budget_steps", 1)
    if fingerprint["budget"] is None:
        return f"{levels} × down the grid"
    return f"{levels} × straight" if steps == 1 else f"{levels} × {steps} steps"


def show(interval: dict[str, float]) -> str:
    """`97.9 [96.8, 98.8]`."""
    value, low, high = (interval[key] for key in ("value", "low", "high"))
    if low is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(points: list[dict[str, Any]]) -> str:
    """AUROC of the headline a row a run, a column a set, as Markdown."""
    sets = list(points[0]["targets"]["both"])
    lines = [
        f"| calls | plan | {' | '.join(sets)} |",
        "|---" * (len(sets) + 2) + "|",
    ]
    for point in points:
        cells = [show(point["targets"]["both"][name]["auroc"]) for name in sets]
        lines.append(f"| {point['calls']} | {point['plan']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(points: list[dict[str, Any]], title: str, output: Path) -> None:
    """A panel a set: AUROC of each target against calls, with its interval."""
    sets = [name for name in points[0]["targets"]["both"] if name != "(mean)"]
    figure, panels = plt.subplots(1, len(sets), figsize=(4.2 * len(sets), 3.6), squeeze=False)
    for panel, name in zip(panels[0], sets, strict=True):
        for target, label in TARGETS.items():
            for kind, marker in (("straight", "o-"), ("steps", "^:"), ("down the grid", "s--")):
                chosen = [point for point in points if point["plan"].endswith(kind)]
                if not chosen:
                    continue
                values = [point["targets"][target][name]["auroc"] for point in chosen]
                panel.errorbar(
                    [point["calls"] for point in chosen],
                    [100 * v["value"] for v in values],
                    yerr=[
                        [100 * (v["value"] - v["low"]) for v in values],
                        [100 * (v["high"] - v["value"]) for v in values],
                    ],
                    fmt=marker,
                    color=f"C{list(TARGETS).index(target)}",
                    capsize=2,
                    label=f"{label}, {kind}",
                )
        panel.set(xscale="log", title=f"{title} → {name}", xlabel="network calls an image")
        counts = [point["calls"] for point in points]
        panel.set_xticks(counts, list(map(str, counts)))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("AUROC, %")
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
