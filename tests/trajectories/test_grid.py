"""Start points against the seed's own table."""

import numpy as np
import pytest
import torch

from diffusion_ood.diffusion.schedule import CLEAN, build_schedule
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.grid import BudgetGrid, SparseGrid, TimeGrid, network_calls

SCHEDULE = build_schedule("scaled_linear_beta", 0.0015, 0.0195)


@pytest.mark.parametrize(
    ("skip", "count"),
    [(1, 100), (2, 50), (3, 34), (4, 25), (5, 20), (8, 13), (16, 7), (32, 4), (64, 2)],
)
def test_number_of_start_points_is_the_published_one(skip, count):
    starts = TimeGrid(1000, 100, skip).starts
    assert len(set(starts)) == len(starts) == count
    assert starts[0] == 10
    assert max(starts) <= 999


def test_start_points_at_the_published_default():
    assert TimeGrid(1000, 100, 4).starts == tuple(range(10, 971, 40))


def test_a_trajectory_goes_down_the_grid_to_zero():
    grid = TimeGrid(1000, 100)
    assert grid.times(30) == (30, 20, 10, 0)
    assert grid.times(999)[:3] == (999, 990, 980)
    assert grid.times(10) == (10, 0)


@pytest.mark.parametrize(
    ("skip", "ancestor"), [(4, 1250), (8, 650), (16, 350), (32, 200), (64, 68)]
)
def test_calls_are_the_ancestors_less_the_one_a_trajectory_that_changed_nothing(skip, ancestor):
    grid = TimeGrid(1000, 100, skip)
    assert network_calls(grid, SAMPLERS["ddim"]) == ancestor - len(grid.starts)


def test_the_number_of_inference_steps_is_obeyed():
    grid = TimeGrid(1000, 10)
    assert grid.starts == (100, 200, 300, 400, 500, 600, 700, 800, 900, 999)
    assert grid.times(300) == (300, 200, 100, 0)


def test_more_steps_than_the_model_has_are_refused():
    with pytest.raises(UserError, match="num_inference_steps"):
        TimeGrid(1000, 1001)


def test_a_budget_is_spent_on_levels_in_the_middles_of_equal_parts():
    betas = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    kept = int((np.cumprod(1 - betas) >= 0.1).sum())
    assert kept == 518
    grid = BudgetGrid(SCHEDULE, 10)
    assert grid.starts == (25, 77, 129, 181, 233, 284, 336, 388, 440, 492)
    assert grid.times(336) == (336, CLEAN)
    assert network_calls(grid, SAMPLERS["ddim"]) == 10


@pytest.mark.parametrize("levels", [7, 100, 518])
def test_levels_of_a_budget_differ_and_leave_a_tenth_of_the_image(levels):
    starts = BudgetGrid(SCHEDULE, levels).starts
    assert len(set(starts)) == levels
    assert SCHEDULE.alphas_cumprod(torch.tensor(starts[-1])) >= 0.1


def test_the_steps_of_a_budget_are_equal_in_log_snr():
    grid = BudgetGrid(SCHEDULE, 4, 5)
    for start in grid.starts:
        times = grid.times(start)
        assert len(times) == 1 + 5
        assert times[0] == start
        assert times[-1] == CLEAN
        log_snr = SCHEDULE.half_log_snr(torch.arange(start + 1))
        lengths = (log_snr[0] - log_snr[start]) * torch.arange(5) / 5
        off = (log_snr[list(times[:-1])] - (log_snr[start] + lengths)).abs()
        gaps = -log_snr.diff()  # between neighbouring times
        assert all(off[k] <= gaps[max(0, times[k] - 1) : times[k] + 1].max() / 2 for k in range(5))


def test_a_low_level_has_as_many_steps_as_there_are_times_below_it():
    grid = BudgetGrid(SCHEDULE, 259, 10)
    assert grid.starts[:2] == (1, 3)
    assert grid.times(1) == (1, 0, CLEAN)
    assert grid.times(3) == (3, 2, 1, 0, CLEAN)


@pytest.mark.parametrize("levels", [0, 519])
def test_an_impossible_budget_is_refused(levels):
    with pytest.raises(UserError, match="budget"):
        BudgetGrid(SCHEDULE, levels)


@pytest.mark.parametrize(
    ("number", "starts"),
    [
        (1, (10,)),
        (2, (10, 99)),
        (5, (10, 30, 50, 80, 99)),
        (10, (*range(10, 100, 10), 99)),
        (99, (*range(10, 100, 10), 99)),
    ],
)
def test_a_sparse_grid_goes_evenly_from_the_first_start_to_the_last(number, starts):
    grid = SparseGrid(TimeGrid(100, 10), number)
    assert grid.starts == starts
    assert grid.times(30) == (30, 20, 10, 0)
