"""ε̂ from each kind of prediction, for a network that knows the truth."""

import pytest
import torch

from diffusion_ood.diffusion.denoiser import NetworkDenoiser
from diffusion_ood.diffusion.schedule import build_schedule

SCHEDULE = build_schedule("scaled_linear_beta", 0.0015, 0.0195)


def truth(prediction_type, x_0, eps, t):
    signal, noise = SCHEDULE.alpha_sigma(t, x_0.ndim)
    return {"epsilon": eps, "sample": x_0, "v_prediction": signal * eps - noise * x_0}[
        prediction_type
    ]


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x_0, eps, torch.tensor([0, 10, 400, 900, 999])


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_the_noise_is_recovered_from_every_prediction(prediction_type, draws):
    x_0, eps, t = draws
    target = truth(prediction_type, x_0, eps, t)
    denoiser = NetworkDenoiser(lambda x, t: target, SCHEDULE, prediction_type)
    found = denoiser(SCHEDULE.add_noise(x_0, eps, t), t)
    torch.testing.assert_close(found, eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_the_loss_is_the_squared_error_against_the_own_target(prediction_type, draws):
    x_0, eps, t = draws
    target = truth(prediction_type, x_0, eps, t)
    off = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).reshape(-1, 1, 1, 1)
    losses = NetworkDenoiser(lambda x, t: target + off, SCHEDULE, prediction_type).loss(x_0, eps, t)
    torch.testing.assert_close(
        losses, torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0]).double(), atol=1e-5, rtol=1e-5
    )


def test_the_network_sees_the_noisy_images(draws):
    x_0, eps, t = draws
    seen = []

    def network(x, times):
        seen.append((x, times))
        return x

    NetworkDenoiser(network, SCHEDULE, "epsilon").loss(x_0, eps, t)
    torch.testing.assert_close(seen[0][0], SCHEDULE.add_noise(x_0, eps, t))
    assert seen[0][1].tolist() == t.tolist()
