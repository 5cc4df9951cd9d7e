"""The one loop from images to decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.methods.measure import content_key
from diffusion_ood.screening.decisions import Decision, DecisionFile
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.maps import map_path, save_map
from diffusion_ood.screening.reading import Read, ahead

BATCH = 16
"""Images that are decided at a time: few, so that decisions come soon."""


def screen(
    detector: Detector,
    items: Sequence[Item],
    file: DecisionFile | None,
    *,
    maps: Path | None = None,
    seen: Callable[[Sequence[Decision]], None] = lambda _: None,
) -> list[Decision]:
    """Decide on items, in their order; an image that cannot be read has a reason for a score.

    Args:
        detector: decides.
        items: the images.
        file: where decisions are kept as they are made, and found of earlier runs.
        maps: folder for a map of each image.
        seen: is told of the decisions on each batch.
    """
    decided: list[Decision] = []
    batches = [items[k : k + BATCH] for k in range(0, len(items), BATCH)]
    finished = file.finished if file else {}
    for batch, images in zip(batches, ahead(batches, detector.reader), strict=True):
        decisions = _decide(detector, batch, images, finished, maps)
        if file:
            file.append(d for d in decisions if d != finished.get(d.file))
        decided += decisions
        seen(decisions)
    return decided


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
