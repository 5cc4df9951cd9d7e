"""Chosen noise levels: their steps, their calls, and the noise that they share."""

import pytest
import torch

from diffusion_ood.model import Diffusion
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.grid import LevelGrid, network_calls
from diffusion_ood.trajectories.reconstruct import reconstruct

KEYS = ["a.png", "b.png", "c.png"]


def test_a_level_goes_down_in_strides_to_the_clean_image():
    grid = LevelGrid(1000, 50, (120, 0, 50, 120))
    assert grid.starts == (50, 120)
    assert grid.times(120) == (120, 100, 80, 60, 40, 20, CLEAN)
    assert grid.times(50) == (50, 30, 10, CLEAN)
    assert grid.times(20) == (20, CLEAN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ddim", [6, 12, 18]), ("pndm2", [7, 13, 19]), ("pndm4", [15, 21, 27])],
)
def test_network_calls_of_the_specification(name, expected):
    found = [
        network_calls(LevelGrid(1000, 50, (0, level)), SAMPLERS[name]) for level in (120, 240, 360)
    ]
    assert found == expected
    assert network_calls(LevelGrid(1000, 50, (0, 120, 240, 360)), SAMPLERS[name]) == sum(expected)


@pytest.mark.parametrize("levels", [(0,), (1000,), (-20, 120)])
def test_levels_outside_the_schedule_are_refused(levels):
    with pytest.raises(UserError, match="--levels"):
        LevelGrid(1000, 50, levels)


def test_steps_beyond_the_training_times_are_refused():
    with pytest.raises(UserError, match="--num_inference_steps"):
        LevelGrid(1000, 1001, (120,))


class Recorder:
    """Answers ε̂ = 0, and keeps each row it sees at its first time."""

    def __init__(self):
        self.rows = []

    def __call__(self, x_t, t, labels=None):
        """A stand-in for a denoiser."""
        self.labels = labels
        self.rows += list(zip(t.tolist(), x_t, strict=True))
        return torch.zeros_like(x_t)


def noises(shared, repeats=2):
    """The noise of each image and slot, found again in the noisy images."""
    model = Diffusion(DiffusionOptions(model_type="tiny"), (1, 8, 8))
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    grid, recorder = LevelGrid(1000, 1000 // 500, (100, 300)), Recorder()
    options = {"repeats": repeats, "shared_noise": shared}
    slots = []
    for image, slot, _ in reconstruct(
        model, recorder, SAMPLERS["ddim"], grid, images, KEYS, 5, 1, **options
    ):
        slots.append((image.item(), slot.item()))
    found = {}
    for (image, slot), (t, x_t) in zip(slots, recorder.rows, strict=True):
        assert t == grid.starts[slot // repeats]
        signal, noise = (rate.item() for rate in model.schedule.alpha_sigma(torch.tensor([t]), 1))
        found[image, slot] = (x_t - signal * images[image]) / noise
    assert sorted(found) == [(i, k) for i in range(3) for k in range(2 * repeats)]
    return found


def test_levels_share_the_noise_of_an_image_and_repeat():
    found = noises(shared=True)
    for image in range(3):
        for repeat in range(2):
            low, high = found[image, repeat], found[image, 2 + repeat]
            torch.testing.assert_close(low, high, rtol=0, atol=1e-5)
    firsts = [found[image, repeat] for image in range(3) for repeat in range(2)]
    for k, one in enumerate(firsts):
        for other in firsts[:k]:
            assert (one - other).abs().max() > 0.5


def test_otherwise_every_slot_has_noise_of_its_own():
    found = list(noises(shared=False).values())
    for k, one in enumerate(found):
        for other in found[:k]:
            assert (one - other).abs().max() > 0.5


def test_more_repeats_leave_the_first_ones_noise_alone():
    one, three = noises(shared=True, repeats=1), noises(shared=True, repeats=3)
    for (image, level), noise in one.items():
        assert torch.equal(noise, three[image, 3 * level])
