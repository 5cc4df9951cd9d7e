"""Where in a scan its slices are unusual: their scores along the axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_ood.data.places import Place
from diffusion_ood.screening.batch import Batch
from diffusion_ood.screening.decisions import Decision
from diffusion_ood.screening.inputs import Item


@dataclass(frozen=True)
class Profile:
    """The slices of one scan that could be read, along their axis.

    Attributes:
        scan: its name.
        plane: across which axis it is cut.
        numbers: of the slices, rising.
        scores: of the slices.
        peak: the decision on the slice with the highest score.
    """

    scan: str
    plane: str
    numbers: list[int]
    scores: list[float]
    peak: Decision


def profiles(batch: Batch, items: Sequence[Item], most: int) -> list[Profile]:
    """Those of at most so many scans, the most unusual first; none of images that are no slices."""
    scans: dict[tuple[str, str], list[tuple[int, Decision]]] = {}
    for decision, item in zip(batch.decisions, items, strict=True):
        place = Place.of(str(item.path))
        if place.plane is not None and decision.score is not None:
            name = str(Place.of(item.name).whole)
            scans.setdefault((name, place.plane), []).append((place.index, decision))
    found = []
    for (scan, plane), slices in scans.items():
        slices.sort(key=lambda one: one[0])
        scores = [decision.score or 0.0 for _, decision in slices]
        peak = slices[scores.index(max(scores))][1]
        found.append(Profile(scan, plane, [number for number, _ in slices], scores, peak))
    known = {} if batch.groups is None else batch.groups.query("level == 'scan'")
    order = dict(zip(known["group"], known["score"], strict=True)) if len(known) else {}
    found.sort(key=lambda one: -order.get(one.scan, max(one.scores)))
    return found[:most]
