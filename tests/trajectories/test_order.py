"""The order of a batch's trajectories: images end in turn, at hardly any cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gaussian import gaussian_diffusion

from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.order import full_width, in_order

SHAPE = (1, 4, 4)


def steps_of(settings: dict[str, Any]) -> list[int]:
    diffusion = gaussian_diffusion(shape=SHAPE)
    grid = Reconstruction(scores=["mse"], **settings).grid(diffusion)
    return [len(grid.times(start)) - 1 for start in grid.starts]


def ends(settings: dict[str, Any], images: int, max_batch: int) -> tuple[list[int], int]:
    """After how many network calls each image had ended, and the calls in all."""
    diffusion = gaussian_diffusion(shape=SHAPE)
    method = Reconstruction(sampler="ddim", scores=["mse"], **settings)
    evaluator = Evaluator(diffusion, "cpu", compile="off", max_batch=max_batch)
    batch = ImageBatch(torch.zeros(images, *SHAPE), [str(image) for image in range(images)])
    ended = {
        image: len(diffusion.network.sizes)
        for rows in method.measure(batch, evaluator)
        for image in rows.images
    }
    assert sum(diffusion.network.sizes) == images * sum(steps_of(settings))
    return [ended[number] for number in range(images)], len(diffusion.network.sizes)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 1.02),
        ({"inference_skip_factor": 4}, 1.02),
        ({"budget": 50}, 1.0),
        ({"budget": 50, "budget_steps": 2}, 1.0),
    ],
    ids=["whole", "sparse", "straight", "two steps"],
)
def test_images_end_in_turn_and_the_batch_stays_full(settings: dict[str, Any], most: float) -> None:
    images, width = 32, 32
    steps = steps_of(settings)
    ended, calls = ends(settings, images, width)
    assert calls <= most * max(max(steps), -(-images * sum(steps) // width)) + 1
    assert ended == sorted(ended)
    for quarter in (1, 2, 3):
        share = ended[quarter * images // 4 - 1] / calls
        assert share < quarter / 4 + 0.1 * (most > 1) + 0.05


def test_where_all_fits_into_one_call_there_are_no_more_than_the_longest_takes() -> None:
    settings = {"inference_skip_factor": 4}
    assert ends(settings, 3, 1000)[1] == max(steps_of(settings))


@pytest.mark.parametrize("images", [16, 64])
def test_with_room_for_all_the_batch_is_as_wide_as_keeps_it_full(images: int) -> None:
    settings = {"inference_skip_factor": 4}
    steps = steps_of(settings)
    calls = ends(settings, images, 4096)[1]
    assert calls <= 1.02 * max(steps)
    width = full_width(images, steps, 4096)
    assert images * sum(steps) > 0.95 * calls * width


@pytest.mark.parametrize(
    ("images", "most", "width"), [(1, 256, 64), (1, 9, 9), (100, 256, 188), (1000, 256, 256)]
)
def test_how_many_trajectories_run_at_a_time(images: int, most: int, width: int) -> None:
    assert full_width(images, [1, 2, 4, 8], most) == width


@pytest.mark.parametrize(("images", "width"), [(1, 1), (5, 3), (40, 16), (3, 1000)])
def test_every_image_starts_from_every_level_once(images: int, width: int) -> None:
    steps = [1, 2, 4, 8]
    found = list(in_order(images, steps, width))
    assert sorted(found) == [(image, k) for image in range(images) for k in range(4)]
    assert found[0] == (0, 3)
