"""The batch of trajectories against each trajectory run alone."""

import pytest
import torch

from diffusion_ood.diffusion.schedule import build_schedule
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories
from diffusion_ood.trajectories.grid import TimeGrid, network_calls

SCHEDULE = build_schedule("scaled_linear_beta", 0.0015, 0.0195)
GRID = TimeGrid(1000, 20, 3)
CPU = torch.device("cpu")


class Denoiser:
    """A nonlinear function of image and time that counts its calls and their sizes."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x, t, labels=None):
        """A stand-in for ε̂."""
        self.sizes.append(len(x))
        return torch.tanh(x * (1 + t.reshape(-1, 1, 1, 1) / 500))


def trajectories(images=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, len(GRID.starts), 1, 4, 4, generator=generator, dtype=torch.float64)
    return [
        Trajectory(i * len(GRID.starts) + k, GRID.times(start), lambda i=i, k=k: x[i, k])
        for k, start in enumerate(GRID.starts)
        for i in range(images)
    ]


def ends(sampler, work, max_batch, denoiser=None):
    found = {}
    for step in run_trajectories(denoiser or Denoiser(), SCHEDULE, sampler, work, CPU, max_batch):
        for row, image in zip(*step.ends(), strict=True):
            assert row not in found
            found[row] = image
    return found


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("max_batch", [1, 2, 5, 64])
def test_a_trajectory_ends_the_same_in_any_batch_and_order(sampler, max_batch):
    work = trajectories()
    alone = {}
    for trajectory in work:
        alone |= ends(sampler, [trajectory], 1)
    together = ends(sampler, work[::-1], max_batch)
    assert together.keys() == alone.keys() == {t.row for t in work}
    for row, image in alone.items():
        torch.testing.assert_close(together[row], image, rtol=1e-12, atol=1e-12)


def test_the_network_sees_each_step_once_and_full_batches():
    denoiser = Denoiser()
    work = trajectories(images=6)
    ends(SAMPLERS["plms"], work[::-1], 8, denoiser)
    assert (
        sum(denoiser.sizes)
        == sum(len(t.times) - 1 for t in work)
        == 6 * network_calls(GRID, SAMPLERS["plms"])
    )
    assert max(denoiser.sizes) == 8
    full = [size for size in denoiser.sizes if size == 8]
    assert len(full) * 8 > 0.9 * sum(denoiser.sizes)


def test_an_image_is_made_only_when_its_turn_comes():
    made = []

    def start(row):
        made.append(row)
        return torch.zeros(1, 2, 2)

    work = [Trajectory(row, (10, 0), lambda row=row: start(row)) for row in range(6)]
    stream = run_trajectories(Denoiser(), SCHEDULE, SAMPLERS["ddim"], work, CPU, 2)
    assert next(stream).rows == [0, 1]
    assert made == [0, 1]


def test_no_work_is_no_call():
    assert list(run_trajectories(Denoiser(), SCHEDULE, SAMPLERS["ddim"], [], CPU)) == []
