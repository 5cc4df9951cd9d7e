"""Pictures of a set: a sheet of its first images, and those that a report shows.

Which images a report shows is known once all are scored. Every image's noise is its own, so that
their reconstructions are made again then, and are the same.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diffusion_ood.data.pictures import flat, save_sheet
from diffusion_ood.detection.examples import chosen_images
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.options import DetectOptions
from diffusion_ood.report.pictures import Pictures, load_pictures, pictures_path
from diffusion_ood.runtime.words import counted
from diffusion_ood.scoring.run import ScoringRun
from diffusion_ood.scoring.work import OpenSet
from diffusion_ood.trajectories.grid import SparseGrid

SHOWN_LEVELS = 5
MAX_SIDE = 128  # of a picture, in pixels


def save_first(run: ScoringRun, method: Reconstruction, one: OpenSet, number: int) -> Path:
    """A picture with a row for each of the first images: the image, then its reconstructions."""
    path = run.folder(method) / f"reconstructions_{one.name}.png"
    batch = _batch(run, one, list(range(min(number, len(one.images)))))
    grid = method.grid(run.evaluator.diffusion)
    save_sheet(path, method.panels(batch, run.evaluator, grid, method.repeats))
    return path


def keep_shown(run: ScoringRun, method: Reconstruction, one: OpenSet, per_kind: int) -> str:
    """Make the pictures of a set that a report by detection's defaults shows; say what was done.

    All tables of the run are complete. There are at most `per_kind` extremes on each side, and as
    many mistakes.
    """
    folder, fingerprint = run.folder(method), run.fingerprint(method)
    path = pictures_path(folder, one.name)
    grid = SparseGrid(method.grid(run.evaluator.diffusion), SHOWN_LEVELS)
    try:
        chosen = chosen_images(folder, one.name, per_kind, DetectOptions())
    except UserError as error:
        return f"no pictures for the report, since nothing can be decided yet: {error}"
    kept = load_pictures(path, fingerprint)
    if kept and kept.filenames == chosen and kept.starts == tuple(grid.starts):
        return f"{path} was done"
    begin = time.perf_counter()
    indices, size, cells = list(map(one.keys.index, chosen)), run.batch_size, []
    for k in range(0, len(indices), size):
        batch = _batch(run, one, indices[k : k + size])
        cells.append(small_pictures(method.panels(batch, run.evaluator, grid)))
    starts = tuple(grid.starts)
    Pictures(chosen, starts, np.concatenate(cells), per_kind, fingerprint).save(path)
    seconds = time.perf_counter() - begin
    return f"{path}: {counted(len(chosen), 'image')} for the report, {seconds:.1f} s"


def small_pictures(panels: Tensor) -> NDArray[np.uint8]:
    """`(B, columns, C, *S)` in [0, 1] as uint8 `(B, columns, H, W, 1 or 3)`, sides of S ≤ 128.

    Of a volume it is three planes side by side, of channels that are no colours the first.
    """
    longest, panels = max(panels.shape[3:]), flat(panels)
    if panels.shape[2] != 3:
        panels = panels[:, :, :1]
    pictures = panels.flatten(0, 1)
    if longest > MAX_SIDE:
        sides = [max(1, round(side * MAX_SIDE / longest)) for side in pictures.shape[-2:]]
        pictures = functional.interpolate(pictures, size=sides, mode="area")
    bytes_ = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    return bytes_.unflatten(0, panels.shape[:2]).movedim(2, -1).numpy()


def _batch(run: ScoringRun, one: OpenSet, indices: list[int]) -> ImageBatch:
    return one.batch(indices, one.images.batch(indices), run.evaluator.device)
