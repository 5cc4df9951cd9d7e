"""Mean squared error against its definition."""

import torch

from diffusion_ood.methods.scores.mse import MeanSquaredError


def test_it_is_the_mean_over_channels_and_pixels():
    image = torch.zeros(2, 1, 2, 2)
    reconstruction = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]]).reshape(2, 1, 2, 2)
    score = MeanSquaredError()
    assert score(score.reference(image), reconstruction).tolist() == [0.25, 0.25]


def test_a_worse_reconstruction_scores_higher():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    score = MeanSquaredError()
    scores = [score(score.reference(image), image + off).item() for off in (0.0, 0.1, 0.2)]
    assert scores[0] == 0
    assert scores == sorted(scores)
