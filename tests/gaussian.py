"""Diffusion models for tests: one whose ε̂ is known in closed form, and one of random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_ood.diffusion.codec import Codec
from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions


class GaussianNetwork(nn.Module):
    """ε̂ = √(1−ᾱ)·(x − √ᾱ·m) / (ᾱ·v + 1 − ᾱ), exact where images are drawn from N(m, v·I).

    Attributes:
        sizes: rows of each call so far.
    """

    def __init__(self, schedule: NoiseSchedule, mean: float, variance: float) -> None:
        super().__init__()
        self.schedule, self.mean, self.variance = schedule, mean, variance
        self.sizes: list[int] = []

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Classes move the mean: by one for each."""
        self.sizes.append(len(x))
        signal, noise = (rate.to(x) for rate in self.schedule.alpha_sigma(t.cpu(), x.ndim))
        mean = torch.full_like(signal, self.mean)
        if class_labels is not None:
            mean += class_labels.reshape(mean.shape)
        return noise * (x - signal * mean) / (signal.square() * self.variance + noise.square())


def gaussian_diffusion(
    mean: float = 0.5,
    variance: float = 0.04,
    shape: tuple[int, ...] = (1, 8, 8),
    **options: object,
) -> Diffusion:
    """A model of images from N(mean, variance·I), in [0, 1] but for their tails."""
    diffusion = Diffusion(DiffusionOptions(**{"model_type": "tiny", **options}), shape)
    diffusion.network = GaussianNetwork(diffusion.schedule, mean, variance)
    return diffusion


def random_diffusion(
    shape: tuple[int, ...] = (1, 8, 8), codec: Codec | None = None, **options: object
) -> Diffusion:
    """A tiny U-Net of random weights, none of them zero as MONAI's last convolutions are."""
    diffusion = Diffusion(DiffusionOptions(model_type="tiny", **options), shape, codec=codec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in diffusion.network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    diffusion.network.eval()
    return diffusion
