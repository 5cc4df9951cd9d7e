"""A screening's results as its report shows them."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_ood.calibration.monitor import LEVEL, Monitor
from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.report.pictures import png
from diffusion_ood.report.screening import Screening, write_screening
from diffusion_ood.screening.batch import Batch, write_groups
from diffusion_ood.screening.decisions import FILE, GROUPS, REPORT, Decision, finish
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.maps import overlay, picture
from diffusion_ood.screening.profiles import profiles
from diffusion_ood.screening.run import BATCH

MAX_SIDE = 192
MAX_SCANS = 8  # that are shown along their axis


def write_results(
    folder: Path,
    detector: Detector,
    name: str,
    batch: Batch,
    items: Sequence[Item],
    *,
    num_shown: int,
    fdr: float | None = None,
    table: str = FILE,
) -> list[str]:
    """Write decisions in their order, those on groups, and the report; where they are, in words.

    Arguments as of `write_report`, but for the folder and the `table`'s name, as of `finish`.
    """
    decisions = finish(folder, batch.decisions, table)
    if batch.groups is None:
        (folder / GROUPS).unlink(missing_ok=True)  # of an earlier run
    else:
        write_groups(folder / GROUPS, batch.groups)
    path = folder / REPORT
    write_report(path, detector, name, batch, items, num_shown=num_shown, fdr=fdr)
    return [f"decisions: {decisions}", f"report: {path}"]


def write_report(
    path: Path,
    detector: Detector,
    name: str,
    batch: Batch,
    items: Sequence[Item],
    *,
    num_shown: int,
    fdr: float | None,
) -> None:
    """Write the report of a screening; the images that it shows are looked at again for their maps.

    Args:
        path: of the file.
        detector: which made the decisions.
        name: of the detector's file.
        batch: the decisions.
        items: the images.
        num_shown: how many of the most unusual images are shown.
        fdr: share of false alarms by which images were chosen, if they were.
    """
    by_name = {item.name: item for item in items}
    shown = batch.by_score()[:num_shown]
    scans = profiles(batch, items, min(num_shown, MAX_SCANS))
    peaks = [profile.peak for profile in scans]
    addresses = _pictures(detector, [by_name[decision.file] for decision in (*shown, *peaks)])
    pictures, of_peaks = addresses[: len(shown)], addresses[len(shown) :]
    rows = [
        {**_row(decision), "picture": image, "map": of_map}
        for decision, (image, of_map) in zip(shown, pictures, strict=True)
    ]
    groups = [] if batch.groups is None else batch.groups.sort_values("p_value").to_dict("records")
    results = Screening(
        scores=[decision.score for decision in batch.scored if decision.score is not None],
        p_values=batch.p_values,
        num_ood=batch.num_ood,
        fdr=fdr,
        shown=rows,
        unreadable=[decision.reason for decision in batch.unreadable],
        groups=groups,
        scans=[
            {**vars(scan), "peak": scan.peak.file, "picture": image, "map": of_map}
            for scan, (image, of_map) in zip(scans, of_peaks, strict=True)
        ],
        stream=None if batch.monitor is None else _stream(batch.monitor),
        doubts=batch.doubts,
    )
    write_screening(path, name, detector.summary(), results)


def _stream(monitor: Monitor) -> dict[str, object]:
    alarm = monitor.alarm_at()
    return {
        "num_images": len(monitor.values),
        "value": f"10^{monitor.log10_value:.1f}",
        "alarm": None if alarm is None else alarm + 1,
        "level": LEVEL,
        "path": monitor.values,
    }


def _row(decision: Decision) -> dict[str, object]:
    names = ("file", "score", "p_value", "is_ood", "loudest")
    return {name: getattr(decision, name) for name in names}


def _pictures(detector: Detector, items: Sequence[Item]) -> list[tuple[str | None, str | None]]:
    """The addresses of each image's picture and map; None of what is no longer there."""
    images: dict[Item, Tensor] = {}
    for item in items:
        with contextlib.suppress(UserError):
            images[item] = item.read(detector.reader)
    found: dict[Item, tuple[str | None, str | None]] = {}
    limit, there = detector.map_limit, list(images)
    for start in range(0, len(there), BATCH):
        part = there[start : start + BATCH]
        maps = None
        if limit is not None:
            maps = detector.measure(torch.stack([images[item] for item in part]), maps=True).maps
        for number, item in enumerate(part):
            image, of_map = images[item], None if maps is None else maps[number]
            shown = None
            if of_map is not None and limit is not None:
                shown = _address(overlay(image, of_map, limit))
            found[item] = _address(picture(image, of_map)), shown
    return [found.get(item, (None, None)) for item in items]


def _address(pixels: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(pixels, MAX_SIDE)).decode()}"
