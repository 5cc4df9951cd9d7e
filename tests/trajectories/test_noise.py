"""Noise that is a function of the image and its start point alone."""

import torch

from diffusion_ood.trajectories.noise import image_noise


def test_equal_arguments_draw_equal_noise():
    assert torch.equal(
        image_noise((1, 8, 8), 2, "a.png", 10), image_noise((1, 8, 8), 2, "a.png", 10)
    )


def test_every_argument_counts():
    draws = [
        image_noise((64,), 2, "a.png", 10),
        image_noise((64,), 3, "a.png", 10),
        image_noise((64,), 2, "b.png", 10),
        image_noise((64,), 2, "a.png", 20),
        image_noise((64,), 2, "a.png", 10, repeat=1),
    ]
    correlations = torch.corrcoef(torch.stack(draws)) - torch.eye(5)
    assert correlations.abs().max() < 0.5


def test_it_is_standard_normal():
    noise = torch.stack([image_noise((28, 28), 2, f"{k}.png", 500) for k in range(200)])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise**4).mean() - 3) < 0.1
    assert noise.dtype == torch.float32


def test_any_file_name_is_a_key():
    assert image_noise((2,), 2, "sp ace\n'\"\udcff", 10).shape == (2,)
