"""The order of a batch's trajectories: images end in turn, at hardly any cost."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.grid import BudgetGrid, Grid, TimeGrid
from diffusion_ood.trajectories.order import batch_width
from diffusion_ood.trajectories.reconstruct import reconstruct

SHAPE = (1, 4, 4)
MODEL = Diffusion(DiffusionOptions(model_type="tiny"), SHAPE)


def ends(grid: Grid, images: int, max_batch: int) -> tuple[list[int], int]:
    """After how many network calls each image had ended, and the calls and rows in all."""
    sizes: list[int] = []

    def denoiser(x: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        sizes.append(len(x))
        return x

    pixels, keys = torch.zeros(images, *SHAPE), [str(image) for image in range(images)]
    seen, ended = Counter(), {}
    for image, _, _ in reconstruct(
        MODEL, denoiser, SAMPLERS["ddim"], grid, pixels, keys, 0, max_batch
    ):
        for number in image.tolist():
            seen[number] += 1
            if seen[number] == len(grid.starts):
                ended[number] = len(sizes)
    assert set(seen.values()) == {len(grid.starts)}
    assert sum(sizes) == images * sum(len(grid.times(start)) - 1 for start in grid.starts)
    return [ended[number] for number in range(images)], len(sizes)


@pytest.mark.parametrize(
    ("grid", "most"),
    [
        (TimeGrid(1000, 100, 1), 1.02),
        (TimeGrid(1000, 100, 4), 1.02),
        (BudgetGrid(MODEL.schedule, 50), 1.0),
        (BudgetGrid(MODEL.schedule, 25, 2), 1.0),
    ],
    ids=["whole", "sparse", "straight", "two steps"],
)
def test_images_end_in_turn_and_the_batch_stays_full(grid: Grid, most: float) -> None:
    images, max_batch = 64, 64
    steps = [len(grid.times(start)) - 1 for start in grid.starts]
    width = batch_width(grid, images, max_batch)
    ended, calls = ends(grid, images, width)
    assert calls <= most * max(max(steps), -(-images * sum(steps) // width)) + 1
    assert ended == sorted(ended)
    for quarter in (1, 2, 3):
        share = ended[quarter * images // 4 - 1] / calls
        assert share < quarter / 4 + 0.1 * (most > 1) + 0.05


def test_where_all_fits_into_one_call_there_are_no_more_than_the_longest_takes() -> None:
    grid = TimeGrid(1000, 100, 4)
    assert ends(grid, 3, 1000)[1] == max(len(grid.times(start)) - 1 for start in grid.starts)


@pytest.mark.parametrize(
    ("grid", "images", "max_batch", "width"),
    [
        (TimeGrid(1000, 6, 2), 10, 256, 20),  # 5 calls, as many as the longest has steps
        (TimeGrid(1000, 6, 2), 1000, 256, 250),  # 36 times 250 are all of the 9,000 steps
        (TimeGrid(1000, 20, 5), 16, 31, 25),  # 22 calls either way; with 31, 3 rows in the last 4
        (BudgetGrid(MODEL.schedule, 7), 3, 256, 21),
        (BudgetGrid(MODEL.schedule, 10), 16, 125, 80),
        (TimeGrid(1000, 100, 4), 1, 4, 4),
    ],
)
def test_a_call_has_the_fewest_rows_that_need_no_more_calls(
    grid: Grid, images: int, max_batch: int, width: int
) -> None:
    assert batch_width(grid, images, max_batch) == width
    fewest = ends(grid, images, max_batch)[1]
    assert ends(grid, images, width)[1] == fewest
    assert ends(grid, images, width - 1)[1] > fewest
