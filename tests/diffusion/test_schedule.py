"""The noise schedule against its definition and against MONAI's own."""

import pytest
import torch

from diffusion_ood.diffusion.schedule import CLEAN, build_schedule
from diffusion_ood.networks.backend import DDPMScheduler

ALL = torch.arange(1000)


@pytest.mark.parametrize("name", ["linear_beta", "scaled_linear_beta", "sigmoid_beta"])
def test_alphas_cumprod_are_monais(name):
    ours = build_schedule(name, 0.0015, 0.0195).alphas_cumprod(ALL)
    theirs = DDPMScheduler(1000, schedule=name, beta_start=0.0015, beta_end=0.0195).alphas_cumprod
    torch.testing.assert_close(ours.float(), theirs, rtol=2e-4, atol=1e-6)


def test_linear_schedule_has_the_published_values():
    # DiffOOD's linear schedule, 1e-4 to 0.02: ᾱ_0, ᾱ_120, ᾱ_240, ᾱ_360, ᾱ_480
    found = build_schedule("linear_beta", 1e-4, 0.02).alphas_cumprod(
        torch.tensor([0, 120, 240, 360, 480])
    )
    expected = torch.tensor([0.99990, 0.85483, 0.54817, 0.26349, 0.09487]).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["linear_beta", "scaled_linear_beta", "sigmoid_beta", "cosine"])
def test_every_time_has_noise_and_more_than_the_one_before(name):
    alphas_cumprod = build_schedule(name, 0.0015, 0.0195).alphas_cumprod(ALL)
    assert alphas_cumprod[0] < 1
    assert alphas_cumprod[-1] > 0
    assert (alphas_cumprod.diff() < 0).all()


def test_the_clean_time_has_no_noise():
    schedule = build_schedule("linear_beta", 1e-4, 0.02)
    assert schedule.alphas_cumprod(torch.tensor([CLEAN])).item() == 1.0


def test_snr_shift_multiplies_the_signal_to_noise_ratio():
    plain = build_schedule("scaled_linear_beta", 0.0015, 0.0195).alphas_cumprod(ALL)
    shifted = build_schedule("scaled_linear_beta", 0.0015, 0.0195, 0.25).alphas_cumprod(ALL)
    ratio = (shifted / (1 - shifted)) / (plain / (1 - plain))
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.25))


def test_add_noise_mixes_each_row_by_its_own_time():
    schedule = build_schedule("linear_beta", 1e-4, 0.02)
    t = torch.tensor([CLEAN, 0, 999])
    x_0, eps = torch.full((3, 1, 2, 2), 2.0).double(), torch.full((3, 1, 2, 2), -1.0).double()
    alphas_cumprod = schedule.alphas_cumprod(t)
    expected = 2 * alphas_cumprod.sqrt() - (1 - alphas_cumprod).sqrt()
    torch.testing.assert_close(schedule.add_noise(x_0, eps, t)[:, 0, 1, 1], expected)
