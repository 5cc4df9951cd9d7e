"""`report.html` of a screening: the batch at a glance, in one file that needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from diffusion_ood.report.figures import COLOURS, GUIDE, LEGEND, draw_svg
from diffusion_ood.report.page import Figure, now, template
from diffusion_ood.runtime.files import as_text, atomic_write

BINS = 20
STARTS = {"axial": "foot", "coronal": "back", "sagittal": "patient's left"}


@dataclass(frozen=True)
class Screening:
    """What a report shows of a screening.

    Attributes:
        scores, p_values: of the images that could be read.
        num_ood: images that are called out of distribution.
        fdr: share of false alarms among those, where they were chosen so.
        shown: the most unusual images, a row each: file, score, p_value, is_ood, loudest, and the
            addresses of its picture and its map, or None.
        unreadable: why the others could not be read.
        groups: a row a group: group, num_images, score, p_value, is_ood, level.
        scans: the most unusual scans of which slices were taken, a row each: scan, plane, numbers
            and scores of the slices, peak, and the addresses of that slice's picture and map.
        stream: num_images, value, alarm, level and the path of log10 values; None without one.
        doubts: in sentences.
    """

    scores: Sequence[float]
    p_values: Sequence[float]
    num_ood: int
    fdr: float | None
    shown: Sequence[Mapping[str, Any]]
    unreadable: Sequence[str]
    groups: Sequence[Mapping[str, Any]]
    scans: Sequence[Mapping[str, Any]]
    stream: Mapping[str, Any] | None
    doubts: Sequence[str]

    @property
    def num_scored(self) -> int:
        """Images that could be read."""
        return len(self.p_values)

    @property
    def num_images(self) -> int:
        """All images."""
        return self.num_scored + len(self.unreadable)

    @property
    def levels(self) -> dict[str, tuple[int, int]]:
        """Of each level the groups that are called out of distribution, and all groups."""
        found = {}
        for level in dict.fromkeys(row["level"] for row in self.groups):
            verdicts = [bool(row["is_ood"]) for row in self.groups if row["level"] == level]
            found[level] = sum(verdicts), len(verdicts)
        return found


def write_screening(
    path: Path, detector_name: str, facts: Mapping[str, Any], results: Screening
) -> None:
    """Write the report, atomically; `facts` is what `Detector.summary` says."""
    versions = facts["provenance"]["versions"]
    page = template("screening.html.j2").render(
        detector_name=detector_name,
        written=now(),
        version=versions["diffusion_ood"],
        results=results,
        facts=facts,
        with_maps=any(row["map"] for row in results.shown),
        figures=list(_figures(results, facts["val_scores"])),
        profiles=[_profile(k, scan, facts["threshold"]) for k, scan in enumerate(results.scans)],
        about=_about(facts),
    )
    with atomic_write(path) as file:
        file.write(as_text(page))


def _figures(results: Screening, val_scores: Sequence[float]) -> Iterator[Figure]:
    if results.p_values:
        yield _p_values(results.p_values)
        yield _scores(results.scores, val_scores)
    if results.stream:
        yield _stream(results.stream)


def _p_values(found: Sequence[float]) -> Figure:
    counts, edges = np.histogram(found, BINS, (0, 1))

    def draw(axes: Axes, _: str) -> bool:
        axes.stairs(counts, edges, fill=True, color=COLOURS["out"], alpha=0.4)
        axes.axhline(len(found) / BINS, **GUIDE)
        axes.set(xlabel="p-value", ylabel="images", xlim=(0, 1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return True

    text = "If all images were in distribution, all bars would be near the dotted line."
    words = f"{counts[0]} of {len(found)} p-values are below {1 / BINS:g}."
    return "p-values", text, words, Markup(draw_svg(draw, "", "p-values"))


def _scores(found: Sequence[float], val_scores: Sequence[float]) -> Figure:
    low, high = min(val_scores), max(val_scores)
    edges = np.linspace(min(low, *found), 2 * high - low, BINS + 1)
    parts = [np.clip(scores, edges[0], edges[-1]) for scores in (val_scores, found)]
    shares = [np.histogram(part, edges)[0] / len(part) for part in parts]

    def draw(axes: Axes, _: str) -> bool:
        for share, name, colour in zip(
            shares, ("validation", "screened"), ("in", "out"), strict=True
        ):
            axes.stairs(100 * share, edges, fill=True, color=COLOURS[colour], alpha=0.3)
            axes.stairs(100 * share, edges, linewidth=1.3, color=COLOURS[colour], label=name)
        axes.set(xlabel="score", ylabel="share of the images, %")
        axes.legend(**LEGEND)
        return True

    text = (
        "The scores beside those of the validation images. What lies beyond the axis is counted in "
        "the last bar."
    )
    words = (
        f"The median is {np.median(found):.2f}, of validation images {np.median(val_scores):.2f}."
    )
    return "Scores", text, words, Markup(draw_svg(draw, "", "scores"))


def _stream(found: Mapping[str, Any]) -> Figure:
    def draw(axes: Axes, _: str) -> bool:
        axes.plot(np.arange(1, len(found["path"]) + 1), found["path"], color=COLOURS["out"])
        axes.axhline(math.log10(found["level"]), **GUIDE)
        axes.set(xlabel="images since the start", ylabel="log10 of the martingale")
        return True

    text = (
        f"A bet that something has changed. Without any change at most {100 / found['level']:g} % "
        "of streams ever reach the dotted line."
    )
    words = f"It is at {found['value']} after {found['num_images']} images."
    return "The stream", text, words, Markup(draw_svg(draw, "", "stream"))


def _profile(number: int, scan: Mapping[str, Any], threshold: float | None) -> Figure:
    """The scores of a scan's slices along their axis."""
    scores, plane = scan["scores"], scan["plane"]
    highest = scores.index(max(scores))

    def draw(axes: Axes, _: str) -> bool:
        axes.plot(scan["numbers"], scores, ".-", color=COLOURS["out"])
        axes.plot(scan["numbers"][highest], scores[highest], "o", color=COLOURS["ink"])
        if threshold is not None:
            axes.axhline(threshold, **GUIDE)
        axes.set(xlabel=f"{plane} slice, from the {STARTS[plane]}", ylabel="score")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return True

    above = 0 if threshold is None else sum(score > threshold for score in scores)
    words = (
        f"Slice {scan['numbers'][highest]} has the highest score, {scores[highest]:.2f}; "
        f"{above} of {len(scores)} slices are above the threshold."
    )
    return str(scan["scan"]), words, words, Markup(draw_svg(draw, "", f"scan-{number}"))


def _about(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The detector, in words."""
    origin = facts["provenance"]
    validation, training = origin["validation"], origin.get("training")
    found = {
        "methods": ", ".join(facts["methods"]),
        "network calls an image": facts["calls_per_image"],
        "images": " x ".join(map(str, facts["image_shape"])),
        "precision": facts["precision"],
        "target false-positive rate": facts["target_fpr"],
        "threshold": "none" if facts["threshold"] is None else f"{facts['threshold']:.4g}",
        "validation": f"{validation['images']} images of {validation['split'] or 'no split'}",
        "digest": facts["digest"],
        "versions": ", ".join(f"{k} {v}" for k, v in origin["versions"].items()),
    }
    if training:
        found["learned from"] = f"{training['images']} images of {training['split'] or 'no split'}"
    return found
