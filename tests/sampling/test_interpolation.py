"""Interpolation: the times up and down, and what lies between two noises."""

import math

import pytest
import torch

from diffusion_ood.diffusion.schedule import CLEAN, build_schedule
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.sampling.interpolation import encoding_times, slerp
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories


def test_fifty_steps_make_49_jumps_up_to_the_time_before_the_last() -> None:
    times = encoding_times(1000, 50)
    assert times[:3] == (CLEAN, 20, 40)
    assert times[-1] == 980
    assert len(times) - 1 == 49


def test_what_lies_between_two_noises_is_on_their_arc() -> None:
    a, b = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    b = b * a.norm() / b.norm()
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    for share in (0.1, 0.5, 0.8):
        found = slerp(a, b, share)
        assert found.norm().item() == pytest.approx(a.norm().item(), rel=1e-5)
        whole, part = (
            math.acos((a * other).sum().item() / a.norm().item() ** 2) for other in (b, found)
        )
        assert part == pytest.approx(share * whole, rel=1e-3)


def test_equal_noises_have_themselves_between_them() -> None:
    noise = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(noise, noise, 0.3), noise)


@pytest.mark.parametrize("sampler", ["ddim", "pndm2", "pndm4"])
def test_a_point_mass_comes_back_from_its_noise(sampler: str) -> None:
    """Up and down the grid: the noise of a point mass is the same at all times."""
    schedule = build_schedule("linear_beta", 1e-4, 0.02)
    eps = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))

    def denoiser(x: torch.Tensor, t: torch.Tensor, labels: object = None) -> torch.Tensor:
        return eps.expand_as(x)

    def led(x: torch.Tensor, times: tuple[int, ...]) -> torch.Tensor:
        *_, last = run_trajectories(
            denoiser,
            schedule,
            SAMPLERS[sampler],
            [Trajectory(0, times, x.clone)],
            torch.device("cpu"),
        )
        return last.x_s[0]

    up = encoding_times(1000, 20)
    image = torch.full((1, 4, 4), 0.3)
    noise = led(image, up)
    expected = schedule.add_noise(image[None], eps[None], torch.tensor([up[-1]]))[0]
    torch.testing.assert_close(noise, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(led(noise, up[::-1]), image, rtol=1e-3, atol=1e-4)
