"""Clipped predictions against their definition."""

import pytest
import torch

from diffusion_ood.diffusion.denoiser import ClippedDenoiser
from diffusion_ood.diffusion.schedule import build_schedule
from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions

SCHEDULE = build_schedule("linear_beta", 1e-4, 0.02)
T = torch.tensor([999, 500, 10, 0])
X = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def prediction(eps):
    """x̂_0 of ε̂ at `X`, `T`."""
    signal, noise = SCHEDULE.alpha_sigma(T, X.ndim)
    return (X - noise * eps) / signal


def believing(x_0):
    """A denoiser that believes in the images `x_0`."""
    signal, noise = SCHEDULE.alpha_sigma(T, X.ndim)
    return lambda x, t, labels=None: (x - signal * x_0) / noise


def test_a_prediction_within_the_range_is_left_as_it_is():
    x_0 = X.tanh()
    found = ClippedDenoiser(believing(x_0), SCHEDULE, -1, 1)(X, T)
    torch.testing.assert_close(found, believing(x_0)(X, T), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.5)])
def test_a_prediction_beyond_the_range_ends_at_its_border(low, high):
    x_0 = 3 * X
    found = prediction(ClippedDenoiser(believing(x_0), SCHEDULE, low, high)(X, T))
    assert ((x_0 < low) | (x_0 > high)).any()
    torch.testing.assert_close(found, x_0.clamp(low, high), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("data_range", "b_scale", "low", "high"),
    [("01", 1.0, 0.0, 1.0), ("01", 0.5, 0.0, 0.5), ("pm1", 2.0, -2.0, 2.0)],
)
def test_a_model_clips_to_its_own_range(data_range, b_scale, low, high):
    options = DiffusionOptions(model_type="tiny", data_range=data_range, b_scale=b_scale)
    model = Diffusion(options, (1, 8, 8))
    denoiser = ClippedDenoiser(lambda x, t, labels: 0 * x, model.schedule, *model.codec.limits)
    eps = denoiser(X, T)
    signal, noise = model.schedule.alpha_sigma(T, X.ndim)
    found = (X - noise * eps) / signal
    torch.testing.assert_close(found, (X / signal).clamp(low, high), rtol=1e-9, atol=1e-9)
