"""The loops that a user of MONAI Generative writes, to be measured against.

One start point after the other, fp32, eager, the library's own U-Net and scheduler, LPIPS by its
package on both images every time; and a plain training step.
"""

from __future__ import annotations

import copy

import lpips
import torch
from torch import Tensor, nn

from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.noise import image_noise


class ReferenceScorer:
    """MSE and LPIPS of every reconstruction, start point after start point.

    Args:
        model: network and schedule.
        starts: start points.
        stride: training times a step.
        perceptual: the lpips package's model, with its weights.
    """

    def __init__(
        self, model: Diffusion, starts: tuple[int, ...], stride: int, perceptual: lpips.LPIPS
    ) -> None:
        # a copy of its own: ours changes the memory layout of the model's
        self.network = copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
        self.alphas_cumprod = model.schedule.alphas_cumprod(torch.arange(1000)).float()
        self.starts = starts
        self.stride = stride
        self.perceptual = perceptual

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: list[str], seed: int) -> Tensor:
        """Scores `(B, starts, 2)` of images `(B, 1, H, W)` in [0, 1]."""
        values = torch.empty(len(images), len(self.starts), 2)
        for k, start in enumerate(self.starts):
            noise = torch.stack([image_noise(images.shape[1:], seed, key, start) for key in keys])
            alpha_bar = self.alphas_cumprod[start]
            x = alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise
            t = start
            while t >= 0:
                x = self._ddim(x, t)
                t = -1 if t == 0 else (t - 1) // self.stride * self.stride
            reconstructions = x.clamp(0, 1)
            values[:, k, 0] = (reconstructions - images).square().flatten(1).mean(1)
            values[:, k, 1] = self.perceptual(
                _as_colour(images), _as_colour(reconstructions), normalize=True
            ).flatten()
        return values

    def _ddim(self, x: Tensor, t: int) -> Tensor:
        """One step down the grid; the last, at t = 0, goes nowhere, as the library's does."""
        eps = self.network(x, torch.full((len(x),), t))
        previous = max(0, (t - 1) // self.stride * self.stride)
        now, then = self.alphas_cumprod[t], self.alphas_cumprod[previous]
        x_0 = (x - (1 - now).sqrt() * eps) / now.sqrt()
        return then.sqrt() * x_0 + (1 - then).sqrt() * eps


def _as_colour(images: Tensor) -> Tensor:
    return nn.functional.pad(images, (2, 2, 2, 2)).repeat(1, 3, 1, 1)


def reference_training_step(
    model: Diffusion, optimizer: torch.optim.Optimizer, images: Tensor
) -> float:
    """One eager fp32 step on the ε objective."""
    t = torch.randint(0, model.schedule.num_timesteps, (len(images),))
    noise = torch.randn_like(images)
    optimizer.zero_grad(set_to_none=True)
    prediction = model.network(model.schedule.add_noise(images, noise, t), t)
    loss = nn.functional.mse_loss(prediction, noise)
    loss.backward()
    optimizer.step()
    return loss.item()
