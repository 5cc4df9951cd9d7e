"""The figures of one OOD set, drawn by Matplotlib as SVG that takes its colours from the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.report import curves
from diffusion_ood.report.svg import COLOURS, inline

WIDTH, HEIGHT = 4.2, 3.1  # inches, of 72 points

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and copied
    "svg.hashsalt": "",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


class Plotter:
    """Draws the figures of each OOD set beside the in-distribution images.

    Args:
        results: of the run.
        threshold: the primary score above which an image is called OOD, if there is one.
    """

    def __init__(self, results: Assessment, threshold: float | None) -> None:
        self.results = results
        self.threshold = threshold
        self._in_levels = curves.levels(results, "in")
        self._in_scores = curves.primary_scores(results, "in")

    def figures(self, name: str) -> dict[str, str]:
        """The figures of an OOD set that there are numbers for: what they are called, and SVG."""
        drawings: dict[str, Callable[[Axes, str], bool]] = {
            "roc": self._roc,
            "histogram": self._histogram,
            "levels": self._levels,
            "scatter": self._scatter,
        }
        found = {kind: _draw(draw, name, f"{kind}-{name}") for kind, draw in drawings.items()}
        return {kind: svg for kind, svg in found.items() if svg is not None}

    def overview(self, names: Sequence[str]) -> str:
        """The AUROC of OOD sets with its intervals, as SVG."""

        def draw(axes: Axes, _: str) -> bool:
            for row, name in enumerate(names):
                found = self.results.metrics[self.results.primary][name]["auroc"]
                if found.low is not None and found.high is not None:
                    axes.plot(
                        [100 * found.low, 100 * found.high],
                        [row, row],
                        color=COLOURS["out"],
                        linewidth=5,
                        alpha=0.35,
                        solid_capstyle="butt",
                    )
                axes.plot([100 * found.value], [row], "o", color=COLOURS["out"], markersize=6)
            axes.axvline(50, color=COLOURS["muted"], linestyle=":", linewidth=1)
            axes.set_yticks(range(len(names)), list(map(_short, names)))
            axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="AUROC, %")
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, 48), max(high, 100.8))
            return True

        size = 1.3 * WIDTH, 0.7 + 0.34 * len(names)
        return _draw(draw, "", "overview", size) or ""

    def _roc(self, axes: Axes, name: str) -> bool:
        fpr, tpr = curves.roc(self._in_scores, curves.primary_scores(self.results, name))
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linestyle=":", linewidth=1)
        axes.plot(fpr, tpr, color=COLOURS["out"], linewidth=1.8)
        if self.threshold is not None:
            called = self.results.called_ood
            axes.plot(
                [called["in"].value],
                [called[name].value],
                marker="o",
                markersize=6,
                color=COLOURS["ink"],
                linestyle="none",
                label="at the threshold",
                clip_on=False,
            )
            _legend(axes)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.set(xlabel="false-positive rate", ylabel="true-positive rate")
        return True

    def _histogram(self, axes: Axes, name: str) -> bool:
        out = curves.primary_scores(self.results, name)
        edges, *shares = curves.histograms(self._in_scores, out)
        for key, label, values in (("in", "in", shares[0]), ("out", name, shares[1])):
            axes.stairs(100 * values, edges, fill=True, color=COLOURS[key], alpha=0.3)
            axes.stairs(100 * values, edges, color=COLOURS[key], linewidth=1.3, label=_short(label))
        if self.threshold is not None and edges[0] <= self.threshold <= edges[-1]:
            axes.axvline(
                self.threshold,
                color=COLOURS["ink"],
                linestyle="--",
                linewidth=1.1,
                label="threshold",
            )
        axes.set(xlabel=f"score ({_short(self.results.primary)})", ylabel="share of the set, %")
        _legend(axes)
        return True

    def _levels(self, axes: Axes, name: str) -> bool:
        out = curves.levels(self.results, name)
        if out is None or self._in_levels is None:
            return False
        marker = "o" if out.t.size < 30 else ""
        for key, label, found in (("in", "in", self._in_levels), ("out", name, out)):
            axes.fill_between(
                found.t, found.low, found.high, color=COLOURS[key], alpha=0.22, linewidth=0
            )
            axes.plot(
                found.t,
                found.mean,
                color=COLOURS[key],
                marker=marker,
                markersize=3,
                linewidth=1.6,
                linestyle="-" if key == "out" else "--",
                label=_short(label),
            )
        axes.set(xlabel="noise level t", ylabel="z-score")
        _legend(axes)
        return True

    def _scatter(self, axes: Axes, name: str) -> bool:
        points = {key: curves.scatter(self.results, key) for key in ("in", name)}
        for key, marker, label in (("in", "o", "in"), ("out", "^", name)):
            found = points["in" if key == "in" else name]
            if found is None:
                return False
            axes.plot(
                *found,
                marker,
                color=COLOURS[key],
                markersize=3,
                alpha=0.5,
                markeredgewidth=0,
                label=_short(label),
            )
        axes.set(xlabel="MSE, mean z-score", ylabel="LPIPS, mean z-score")
        _legend(axes, markerscale=2)
        return True


def _draw(
    draw: Callable[[Axes, str], bool],
    name: str,
    prefix: str,
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> str | None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        if not draw(figure.subplots(), name):
            return None
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    return inline(file.getvalue(), prefix)


def _legend(axes: Axes, markerscale: float = 1) -> None:
    """A legend above the axes, where it hides nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderpad=0.2,
        borderaxespad=0,
        columnspacing=1.4,
        handlelength=1.6,
        markerscale=markerscale,
    )


def _short(name: str) -> str:
    """A name that fits into a legend."""
    return name if len(name) <= 24 else name[:23] + "…"
