"""Noise levels by log-SNR: the published ones, whatever the range of the images."""

from __future__ import annotations

import pytest
import torch

from diffusion_ood.diffusion.levels import even_levels, log_snr, nearest_level
from diffusion_ood.diffusion.schedule import build_schedule
from diffusion_ood.errors import UserError

LINEAR = build_schedule("linear_beta", 1e-4, 2e-2)
SCALED = build_schedule("scaled_linear_beta", 0.0015, 0.0195)


@pytest.mark.parametrize(
    ("wanted", "linear", "scaled"), [(5, 21, 3), (4, 37, 11), (3, 64, 29), (0, 258, 254)]
)
def test_the_nearest_times_are_those_of_the_literature(
    wanted: float, linear: int, scaled: int
) -> None:
    assert nearest_level(LINEAR, (-1, 1), wanted) == linear
    assert nearest_level(SCALED, (-1, 1), wanted) == scaled


@pytest.mark.parametrize(("pm1", "unit"), [(21, 8), (36, 16)])
def test_half_the_contrast_is_another_time_for_the_same_log_snr(pm1: int, unit: int) -> None:
    wanted = float(log_snr(LINEAR, (-1, 1))[pm1])
    assert nearest_level(LINEAR, (0, 1), wanted) == unit


def test_even_levels_rise_and_lie_evenly_between_the_ends() -> None:
    found = even_levels(LINEAR, (-1, 1), 11)
    assert list(found) == sorted(set(found))
    known = log_snr(LINEAR, (-1, 1))[list(found)]
    torch.testing.assert_close(known, torch.linspace(7, -3, 11).double(), atol=0.12, rtol=0)
    assert len(even_levels(LINEAR, (-1, 1), 1)) == 1


def test_more_levels_than_there_are_times_are_refused() -> None:
    with pytest.raises(UserError, match="`num_levels`: found 2000"):
        even_levels(LINEAR, (-1, 1), 2000)
