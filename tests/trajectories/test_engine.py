"""The batch of trajectories against each trajectory run alone."""

import dataclasses

import pytest
import torch

from diffusion_ood.diffusion.schedule import build_schedule
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories
from diffusion_ood.trajectories.grid import TimeGrid, calls

SCHEDULE = build_schedule("scaled_linear_beta", 0.0015, 0.0195)
GRID = TimeGrid(1000, 20, 3)
CPU = torch.device("cpu")


class Denoiser:
    """A nonlinear function of image and time that counts its calls and their sizes."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x, t):
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
    for rows, x in run_trajectories(
        denoiser or Denoiser(), SCHEDULE, sampler, work, CPU, max_batch
    ):
        for row, image in zip(rows, x, strict=True):
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
    assert sum(denoiser.sizes) == sum(len(t.times) - 1 for t in work) == 6 * calls(GRID)
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
    rows, _ = next(stream)
    assert rows == [0, 1]
    assert made == [0, 1]


def test_no_work_is_no_call():
    assert list(run_trajectories(Denoiser(), SCHEDULE, SAMPLERS["ddim"], [], CPU)) == []


@pytest.mark.parametrize("name", ["plms", "ddim", "dpmpp_2m"])
@pytest.mark.parametrize("max_batch", [1, 5, 64])
def test_the_exact_denoiser_has_the_calls_below_the_time_that_a_trajectory_says(name, max_batch):
    quick, exact = Denoiser(), Denoiser()
    switched, below = Denoiser(), {start: 300 if start > 500 else 0 for start in GRID.starts}

    def by_time(x, t):  # what one trajectory alone is to see
        return switched(x, t) if t.item() < limit else -switched(x, t)

    expected = {}
    for alone in trajectories():
        limit = below[alone.times[0]]
        expected |= ends(SAMPLERS[name], [alone], 1, by_time)
    work = [dataclasses.replace(t, exact_below=below[t.times[0]]) for t in trajectories()]
    stream = run_trajectories(
        lambda x, t: -quick(x, t), SCHEDULE, SAMPLERS[name], work, CPU, max_batch, exact
    )
    found = {row: image for rows, x in stream for row, image in zip(rows, x, strict=True)}
    assert found.keys() == expected.keys()
    for row, image in expected.items():
        torch.testing.assert_close(found[row], image, rtol=1e-12, atol=1e-12)
    high = sum(start > 500 for start in GRID.starts)
    assert sum(exact.sizes) == 3 * high * 5  # at 250, 200, 150, 100 and 50
    assert max(exact.sizes) <= max_batch


def test_rows_wait_for_a_worthwhile_exact_call():
    exact = Denoiser()
    work = [
        Trajectory(row, GRID.times(950), lambda: torch.zeros(1, 2, 2), None, 300)
        for row in range(64)
    ]
    for _ in run_trajectories(Denoiser(), SCHEDULE, SAMPLERS["ddim"], work, CPU, 16, exact):
        pass
    assert set(exact.sizes) == {16}
    work = [dataclasses.replace(t, times=GRID.times(950 - 50 * (t.row % 8))) for t in work]
    exact = Denoiser()
    for _ in run_trajectories(Denoiser(), SCHEDULE, SAMPLERS["ddim"], work, CPU, 16, exact):
        pass
    assert min(exact.sizes[:-5]) >= 2  # the last may be one alone
    assert sum(exact.sizes) == 64 * 5


def test_a_trajectory_that_starts_low_is_exact_throughout():
    quick, exact = Denoiser(), Denoiser()
    work = [Trajectory(0, (200, 100, 0), lambda: torch.zeros(1, 2, 2), None, 300)]
    ((rows, _),) = run_trajectories(quick, SCHEDULE, SAMPLERS["plms"], work, CPU, 4, exact)
    assert rows == [0]
    assert (quick.sizes, exact.sizes) == ([], [1, 1])
