"""The images of a set that a report shows, and keeping their reconstructions for it.

Which images these are is known once all are scored. Every image's noise is its own, so that their
reconstructions are made again then, as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diffusion_ood.commands.tasks import Task
from diffusion_ood.detection.assessment import decide, measure
from diffusion_ood.detection.noteworthy import noteworthy
from diffusion_ood.detection.table import read_table, table_path
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions
from diffusion_ood.report.pictures import Pictures, load_pictures, pictures_path

SHOWN_LEVELS = 5
MAX_SIDE = 128  # of a picture, in pixels

Cells = Callable[[list[int]], Tensor]
"""Numbers of images to `(B, 1 + levels, C, *S)` in [0, 1]: each beside its reconstructions."""


class Choice:
    """The images of one set that a report by detection's defaults shows.

    Args:
        ood_dir: the run's folder of score tables, which are complete.
        task: the set.
        per_kind: at most so many extremes on each side, and so many mistakes.
        batch_size: images that are reconstructed at a time.
    """

    def __init__(self, ood_dir: Path, task: Task, per_kind: int, batch_size: int) -> None:
        self.ood_dir = ood_dir
        self.task = task
        self.per_kind = per_kind
        self.batch_size = batch_size

    def keep(self, cells: Cells, starts: Sequence[int], fingerprint: Mapping[str, Any]) -> str:
        """Make the pictures that are not there yet; says what was done."""
        path = pictures_path(self.ood_dir, self.task.name)
        try:
            chosen = chosen_images(self.ood_dir, self.task.name, self.per_kind, DetectOptions())
        except UserError as error:
            return f"no pictures for the report, since nothing can be decided yet: {error}"
        kept = load_pictures(path, fingerprint)
        if kept and kept.filenames == chosen and kept.starts == tuple(starts):
            return f"{path} was done"
        begin = time.perf_counter()
        number = {filename: k for k, filename in enumerate(self.task.split.images)}
        indices = [number[filename] for filename in chosen]
        batches = [
            small_pictures(cells(indices[k : k + self.batch_size]))
            for k in range(0, len(indices), self.batch_size)
        ]
        pictures = np.concatenate(batches)
        Pictures(chosen, tuple(starts), pictures, self.per_kind, fingerprint).save(path)
        seconds = time.perf_counter() - begin
        return f"{path}: {len(chosen)} images for the report, {seconds:.1f} s"


def chosen_images(
    ood_dir: Path, name: str, per_kind: int, options: DetectOptions
) -> tuple[str, ...]:
    """The images of a set that a report shows, by the scores in its table and in that of val."""
    names = ("val", name)
    tables = {name: read_table(table_path(ood_dir, name)) for name in names}
    _, _, scores = measure(ood_dir, tables, options)
    decided = decide(scores, options.target_fpr)[name]
    return tuple(noteworthy(decided, per_kind, is_in=name == "in")["filename"])


def small_pictures(cells: Tensor) -> NDArray[np.uint8]:
    """`(B, columns, C, *S)` in [0, 1] as uint8 `(B, columns, H, W, 1 or 3)`, H and W ≤ 128.

    Of a volume it is the middle slice, of channels that are no colours the first.
    """
    if cells.ndim == 6:
        cells = cells[:, :, :, cells.shape[3] // 2]
    if cells.shape[2] != 3:
        cells = cells[:, :, :1]
    flat, longest = cells.flatten(0, 1), max(cells.shape[-2:])
    if longest > MAX_SIDE:
        sides = [max(1, round(side * MAX_SIDE / longest)) for side in flat.shape[-2:]]
        flat = functional.interpolate(flat, size=sides, mode="area")
    bytes_ = (flat.clamp(0, 1) * 255).round().to(torch.uint8)
    return bytes_.unflatten(0, cells.shape[:2]).movedim(2, -1).numpy()
