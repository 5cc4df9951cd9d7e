"""The one loop from images to decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.methods.measure import content_key
from diffusion_ood.runtime.background import Background
from diffusion_ood.screening.decisions import Decision, DecisionFile
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.maps import map_path, save_map
from diffusion_ood.screening.reading import Read, ahead

BATCH = 16
"""Images that are decided at a time, at least: few, so that decisions come soon."""


Decide: TypeAlias = (
    "Callable[[Sequence[Item], Mapping[str, Decision], Path | None], Iterator[list[Decision]]]"
)
"""`decide` with a detector, here or elsewhere: decisions on some items at a time, in any order."""


def screen(
    detector: Detector,
    items: Sequence[Item],
    file: DecisionFile | None,
    *,
    maps: Path | None = None,
    seen: Callable[[Sequence[Decision]], None] = lambda _: None,
    elsewhere: Decide | None = None,
) -> list[Decision]:
    """Decide on items; an image that cannot be read has a reason for a score.

    Args:
        detector: decides.
        items: the images, each with a name of its own.
        file: where decisions are kept as they are made, and found of earlier runs.
        maps: folder for a map of each image.
        seen: is told of the decisions as they are made.
        elsewhere: decides in place of the detector here.

    Returns:
        The decisions in the order of the items.
    """
    made: dict[str, Decision] = {}
    finished = file.finished if file else {}
    with Background() as writing:
        for decisions in (elsewhere or partial(decide, detector))(items, finished, maps):
            if file:
                new = [d for d in decisions if d != finished.get(d.file)]
                writing.do(partial(file.append, new))
            made |= {decision.file: decision for decision in decisions}
            seen(decisions)
    return [made[item.name] for item in items]


def decide(
    detector: Detector, items: Sequence[Item], finished: Mapping[str, Decision], maps: Path | None
) -> Iterator[list[Decision]]:
    """The decisions on items, in their order, a batch at a time; arguments as of `screen`."""
    size = max(BATCH, detector.images_at_once)
    batches = [items[k : k + size] for k in range(0, len(items), size)]
    for batch, images in zip(batches, ahead(batches, detector.reader), strict=True):
        yield _decide(detector, batch, images, finished, maps)


def _decide(
    detector: Detector,
    items: Sequence[Item],
    images: Sequence[Read],
    finished: Mapping[str, Decision],
    maps: Path | None,
) -> list[Decision]:
    """The decisions on a batch; images whose content was decided before are not measured again."""
    begin = time.perf_counter()
    found: dict[str, Decision] = {}
    new: list[tuple[Item, Tensor, float]] = []
    for item, (image, seconds) in zip(items, images, strict=True):
        if isinstance(image, UserError):
            found[item.name] = Decision(item.name, reason=str(image))
            continue
        known = finished.get(item.name)
        mapped = maps is None or map_path(maps, item.within, image.shape).exists()
        if known is not None and known.content == content_key(image) and mapped:
            found[item.name] = known
        else:
            new.append((item, image, seconds))
    if new:
        pixels = torch.stack([image for _, image, _ in new])
        scores = detector.measure(pixels, maps=maps is not None)
    share = (time.perf_counter() - begin) / max(1, len(new))
    for number, (item, image, seconds) in enumerate(new):
        if maps is not None and scores.maps is not None:
            limit = detector.map_limit or 1.0
            path = map_path(maps, item.within, image.shape)
            save_map(path, image, scores.maps[number], limit, item, detector.reader)
        found[item.name] = Decision(
            item.name,
            score=float(scores.score[number]),
            p_value=float(scores.p_value[number]),
            is_ood=bool(scores.is_ood[number]),
            loudest=scores.loudest[number],
            milliseconds=round(1000 * (seconds + share), 1),
            content=scores.keys[number],
        )
    return [found[item.name] for item in items]
