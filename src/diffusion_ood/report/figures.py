"""The figures of a set, drawn by Matplotlib as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.report import curves
from diffusion_ood.runtime.files import as_text

WIDTH, HEIGHT = 4.2, 3.1  # inches, of 72 points

# Colours that stand for the page's, which change with its colour scheme.
COLOURS = {
    "ink": "#010101",
    "muted": "#010102",
    "grid": "#010103",
    "in": "#010104",
    "out": "#010105",
}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and copied
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "lines.linewidth": 1.6,
}
GUIDE: dict[str, Any] = {"color": COLOURS["muted"], "linestyle": ":", "linewidth": 1}
LEGEND: dict[str, Any] = {  # above the axes, where it hides nothing
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 3,
    "frameon": False,
    "borderpad": 0.2,
    "borderaxespad": 0,
    "columnspacing": 1.4,
    "handlelength": 1.6,
}

# Of Matplotlib's SVG: ids that nothing refers to, and the size, which the page decides about.
_DROPPED = re.compile(r' id="[\w.]+_\d+"| (?:width|height)="[\d.]+pt"')
_POINTS = re.compile(r'<g( clip-path="[^"]*")>((?:\s*<use [^>]*?( style="[^"]*")\s*/>)+)')


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

    def validation(self) -> str:
        """The scores of the in-distribution and of the validation images, as SVG."""
        return draw_svg(self._histogram, "val", "histogram-val")

    def figures(self, name: str) -> dict[str, str]:
        """The figures of an OOD set that there are numbers for: what they are called, and SVG."""
        drawings = {
            "roc": self._roc,
            "histogram": self._histogram,
            "levels": self._levels,
            "scatter": self._scatter,
        }
        found = {
            kind: draw_svg(draw, name, as_text(f"{kind}-{name}")) for kind, draw in drawings.items()
        }
        return {kind: svg for kind, svg in found.items() if svg}

    def overview(self, names: Sequence[str]) -> str:
        """The AUROC of OOD sets with its intervals, as SVG."""

        def draw(axes: Axes, _: str) -> bool:
            for row, name in enumerate(names):
                found = self.results.metrics[self.results.primary][name]["auroc"]
                if found.low is not None and found.high is not None:
                    bounds = 100 * found.low, 100 * found.high
                    axes.hlines(row, *bounds, COLOURS["out"], linewidth=5, alpha=0.35)
                axes.plot(100 * found.value, row, "o", color=COLOURS["out"])
            axes.axvline(50, **GUIDE)
            axes.set_yticks(range(len(names)), list(map(_short, names)))
            axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="AUROC, %")
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, 48), max(high, 100.8))
            return True

        return draw_svg(draw, "", "overview", (1.3 * WIDTH, 0.7 + 0.34 * len(names)))

    def _roc(self, axes: Axes, name: str) -> bool:
        fpr, tpr = curves.roc(*self._primary_scores(name))
        axes.plot([0, 1], [0, 1], **GUIDE)
        axes.plot(fpr, tpr, color=COLOURS["out"])
        if self.threshold is not None:
            rates = [self.results.called_ood[key].value for key in ("in", name)]
            label = "at the threshold"
            axes.plot(*rates, "o", color=COLOURS["ink"], label=label, clip_on=False)
            axes.legend(**LEGEND)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.set(xlabel="false-positive rate", ylabel="true-positive rate")
        return True

    def _histogram(self, axes: Axes, name: str) -> bool:
        edges, *shares = curves.histograms(*self._primary_scores(name))
        for share, (_, style) in zip(shares, _sets(name), strict=True):
            axes.stairs(100 * share, edges, fill=True, color=style["color"], alpha=0.3)
            axes.stairs(100 * share, edges, linewidth=1.3, **style)
        if self.threshold is not None and edges[0] <= self.threshold <= edges[-1]:
            line = {**GUIDE, "color": COLOURS["ink"], "linestyle": "--"}
            axes.axvline(self.threshold, label="threshold", **line)
        axes.set(xlabel=f"score ({_short(self.results.primary)})", ylabel="share of the set, %")
        axes.legend(**LEGEND)
        return True

    def _levels(self, axes: Axes, name: str) -> bool:
        out = curves.levels(self.results, name)
        if out is None or self._in_levels is None:
            return False
        marker = "o" if len(out) < 30 else ""
        for found, (key, style) in zip((self._in_levels, out), _sets(name), strict=True):
            band = found.index, found["low"], found["high"]
            axes.fill_between(*band, color=style["color"], alpha=0.22, linewidth=0)
            line = "--" if key == "in" else "-"
            axes.plot(found["mean"], line, marker=marker, markersize=3, **style)
        axes.set(xlabel="noise level t", ylabel="z-score")
        axes.legend(**LEGEND)
        return True

    def _scatter(self, axes: Axes, name: str) -> bool:
        for marker, (key, style) in zip("o^", _sets(name), strict=True):
            points = curves.scatter(self.results, key)
            if points is None:
                return False
            axes.plot(*points, marker, markersize=3, markeredgewidth=0, alpha=0.5, **style)
        axes.set(xlabel="MSE, mean z-score", ylabel="LPIPS, mean z-score")
        axes.legend(**LEGEND, markerscale=2)
        return True

    def _primary_scores(self, name: str) -> list[curves.Vector]:
        """The scores that decisions are made by, of the in-distribution images and of a set."""
        scores = (self.results.scores[key][self.results.primary] for key in ("in", name))
        return [of_set.to_numpy(dtype="float64") for of_set in scores]


def _sets(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The two sets of a figure: in distribution, and that of the name; and how each is drawn."""
    other = COLOURS["muted" if name == "val" else "out"]
    return [
        ("in", {"color": COLOURS["in"], "label": "in"}),
        (name, {"color": other, "label": _short(name)}),
    ]


def draw_svg(
    draw: Callable[[Axes, str], bool],
    name: str,
    salt: str,
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> str:
    """A figure as SVG; empty where `draw` finds nothing to show.

    Its `salt` tells the names of its markers and clip paths from those of other figures.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        if not draw(figure.subplots(), name):
            return ""
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    return _inline(file.getvalue())


def _inline(text: str) -> str:
    """An SVG file as a part of the page: small, and in the page's colours."""
    page = _DROPPED.sub("", text[text.index("<svg") :])
    # What all points of a group say, which is most of their size, the group says once.
    page = _POINTS.sub(
        lambda found: f"<g{found[1]}{found[3]}>{found[2].replace(found[3], '')}", page
    )
    # The figure's place on the page has the description.
    page = page.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    for name, colour in COLOURS.items():
        page = page.replace(colour, f"var(--{name})")
    return re.sub(r"\s*\n\s*", " ", page)


def _short(name: str) -> str:
    """A name that fits into a legend."""
    name = as_text(name)
    return name if len(name) <= 24 else name[:23] + "…"
