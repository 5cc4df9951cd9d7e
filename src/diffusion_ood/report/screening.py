"""`report.html` of a screening: the batch at a glance, in one file that needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from diffusion_ood.report.figures import COLOURS, GUIDE, draw_svg
from diffusion_ood.report.page import Figure, now, template
from diffusion_ood.runtime.files import as_text, atomic_write

BINS = 20


@dataclass(frozen=True)
class Screening:
    """What a report shows of a screening.

    Attributes:
        p_values: of the images that could be read.
        num_ood: images that are called out of distribution.
        fdr: share of false alarms among those, where they were chosen so.
        shown: the most unusual images, a row each: file, score, p_value, is_ood, loudest, and the
            addresses of its picture and its map, or None.
        unreadable: why the others could not be read.
        groups: a row a group: group, num_images, score, p_value, is_ood.
        stream: num_images, value, alarm, level and the path of log10 values; None without one.
        doubts: in sentences.
    """

    p_values: Sequence[float]
    num_ood: int
    fdr: float | None
    shown: Sequence[Mapping[str, Any]]
    unreadable: Sequence[str]
    groups: Sequence[Mapping[str, Any]]
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
    def num_groups_ood(self) -> int:
        """Groups that are called out of distribution."""
        return sum(bool(row["is_ood"]) for row in self.groups)


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
        figures=list(_figures(results)),
        about=_about(facts),
    )
    with atomic_write(path) as file:
        file.write(as_text(page))


def _figures(results: Screening) -> list[Figure]:
    found: list[Figure] = []
    if results.p_values:
        counts, edges = np.histogram(results.p_values, BINS, (0, 1))

        def histogram(axes: Axes, _: str) -> bool:
            axes.stairs(counts, edges, fill=True, color=COLOURS["out"], alpha=0.4)
            axes.axhline(len(results.p_values) / BINS, **GUIDE)
            axes.set(xlabel="p-value", ylabel="images", xlim=(0, 1))
            return True

        text = "If all images were in distribution, all bars would be near the dotted line."
        first = f"{counts[0]} of {len(results.p_values)} p-values are below {1 / BINS:g}."
        svg = draw_svg(histogram, "", "p-values")
        found.append(("p-values", text, first, Markup(svg)))
    if results.stream:
        stream = results.stream

        def path(axes: Axes, _: str) -> bool:
            axes.plot(np.arange(1, len(stream["path"]) + 1), stream["path"], color=COLOURS["out"])
            axes.axhline(math.log10(stream["level"]), **GUIDE)
            axes.set(xlabel="images since the start", ylabel="log10 of the martingale")
            return True

        text = (
            f"A bet that something has changed. Without any change at most "
            f"{100 / stream['level']:g} % of streams ever reach the dotted line."
        )
        last = f"It is at {stream['value']} after {stream['num_images']} images."
        found.append(("The stream", text, last, Markup(draw_svg(path, "", "stream"))))
    return found


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
