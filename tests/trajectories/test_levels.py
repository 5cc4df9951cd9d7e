"""Chosen noise levels: their steps, their calls, and the noise that they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gaussian import gaussian_diffusion
from torch import Tensor

from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.engine import Step
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.grid import LevelGrid, network_calls

KEYS = ["a.png", "b.png", "c.png"]
Noises = dict[tuple[int, int], Tensor]


def test_a_level_goes_down_in_strides_to_the_clean_image() -> None:
    grid = LevelGrid(1000, 50, (120, 0, 50, 120))
    assert grid.starts == (50, 120)
    assert grid.times(120) == (120, 100, 80, 60, 40, 20, CLEAN)
    assert grid.times(50) == (50, 30, 10, CLEAN)
    assert grid.times(20) == (20, CLEAN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ddim", [6, 12, 18]), ("pndm2", [7, 13, 19]), ("pndm4", [15, 21, 27])],
)
def test_network_calls_of_the_specification(name: str, expected: list[int]) -> None:
    found = [
        network_calls(LevelGrid(1000, 50, (0, level)), SAMPLERS[name]) for level in (120, 240, 360)
    ]
    assert found == expected
    assert network_calls(LevelGrid(1000, 50, (0, 120, 240, 360)), SAMPLERS[name]) == sum(expected)


@pytest.mark.parametrize("levels", [(0,), (1000,), (-20, 120)])
def test_levels_outside_the_schedule_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="`levels`"):
        LevelGrid(1000, 50, levels)


def test_steps_beyond_the_training_times_are_refused() -> None:
    with pytest.raises(UserError, match="`num_inference_steps`"):
        LevelGrid(1000, 1001, (120,))


class Watched(Evaluator):
    """An evaluator that keeps the steps it yields."""

    def run(self, *arguments: Any, **named: Any) -> Iterator[Step]:
        """As an evaluator does."""
        self.steps = []
        for step in super().run(*arguments, **named):
            self.steps.append(step)
            yield step


def noises(repeats: int = 2, **settings: Any) -> Noises:
    """The noise of each image and draw, found again in the noisy images; keyed by both."""
    diffusion = gaussian_diffusion()
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    method = Reconstruction(sampler="ddim", scores=["mse"], repeats=repeats, seed=5, **settings)
    evaluator = Watched(diffusion, "cpu", compile="off", max_batch=4)
    list(method.measure(ImageBatch(images, KEYS), evaluator))
    draws = method.draws(diffusion)
    found: Noises = {}
    for step in evaluator.steps:
        for row, t, x_t in zip(step.rows, step.t.tolist(), step.x_t, strict=True):
            image, draw = divmod(row, len(draws))
            if (image, draw) not in found:  # the step that it starts with
                assert t == draws[draw][0]
                signal, noise = (
                    r.item() for r in diffusion.schedule.alpha_sigma(torch.tensor([t]), 1)
                )
                found[image, draw] = (x_t - signal * images[image]) / noise
    assert sorted(found) == [(i, k) for i in range(3) for k in range(len(draws))]
    return found


def test_levels_share_the_noise_of_an_image_and_repeat() -> None:
    found = noises(levels=(100, 300))
    for image in range(3):
        for repeat in range(2):
            low, high = found[image, repeat], found[image, 2 + repeat]
            torch.testing.assert_close(low, high, rtol=0, atol=1e-5)
    assert_different([found[image, repeat] for image in range(3) for repeat in range(2)])


def test_otherwise_every_draw_has_noise_of_its_own() -> None:
    assert_different(list(noises(num_inference_steps=4, inference_skip_factor=2).values()))


def assert_different(found: list[Tensor]) -> None:
    for k, one in enumerate(found):
        for other in found[:k]:
            assert (one - other).abs().max() > 0.5


def test_more_repeats_leave_the_first_ones_noise_alone() -> None:
    one, three = noises(1, levels=(100, 300)), noises(3, levels=(100, 300))
    for (image, level), noise in one.items():
        assert torch.equal(noise, three[image, 3 * level])
