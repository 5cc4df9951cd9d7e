"""The loops that a user of MONAI Generative writes, to be measured against.

One start point after the other, eager, the library's own U-Net and scheduler, LPIPS by its package
on both images every time; and a plain training step. In fp32, or under autocast in bf16.
"""

from __future__ import annotations

import copy

import lpips
import torch
from torch import Tensor, nn

from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.noise import image_noise

CPU = torch.device("cpu")
LEAST_SIDE = 32  # of what AlexNet's pooling leaves something of


class ReferenceScorer:
    """MSE and LPIPS of every reconstruction, start point after start point.

    Args:
        model: network and schedule.
        starts: start points.
        stride: training times a step; None predicts x_0 straight from the start point.
        perceptual: the lpips package's model, with its weights; None leaves LPIPS out.
        device: where it computes.
        precision: `fp32`, or `bf16` for autocast.
    """

    def __init__(
        self,
        model: Diffusion,
        starts: tuple[int, ...],
        stride: int | None,
        perceptual: lpips.LPIPS | None,
        device: torch.device = CPU,
        precision: str = "fp32",
    ) -> None:
        # a copy of its own: ours changes the memory layout of the model's
        network = copy.deepcopy(model.network)
        self.network = network.to(device).to(memory_format=torch.contiguous_format)
        self.alphas_cumprod = model.schedule.alphas_cumprod(torch.arange(1000)).float()
        self.starts = starts
        self.stride = stride
        self.perceptual = None if perceptual is None else perceptual.to(device)
        self.device, self.precision = device, precision

    @property
    def calls(self) -> int:
        """Network calls an image."""
        return sum(len(reference_times(start, self.stride)) for start in self.starts)

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: list[str], seed: int | None) -> Tensor:
        """Scores `(B, starts, 1 or 2)` of images `(B, 1, *S)` in [0, 1].

        Each image has the noise of its key and the seed; without a seed the device draws any.
        """
        images = images.to(self.device)
        scores = []
        for start in self.starts:
            if seed is None:
                noise = torch.randn_like(images)
            else:
                drawn = [image_noise(images.shape[1:], seed, key, start) for key in keys]
                noise = torch.stack(drawn).to(self.device)
            alpha_bar = self.alphas_cumprod[start]
            x = alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise
            for t in reference_times(start, self.stride):
                x = self._ddim(x, t)
            scores.append(self._compared(images, x.clamp(0, 1)))
        return torch.stack(scores, 1)

    def _compared(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """The scores of one start point, `(B, 1 or 2)`, on the CPU."""
        found = [(reconstructions - images).square().flatten(1).mean(1)]
        if self.perceptual is not None:
            pair = _as_colour(images), _as_colour(reconstructions)
            found.append(self.perceptual(*pair, normalize=True).flatten())
        return torch.stack(found, 1).cpu()

    def _ddim(self, x: Tensor, t: int) -> Tensor:
        """One step down the grid; the last, at t = 0, goes nowhere, as the library's does."""
        with _autocast(self.device, self.precision):
            eps = self.network(x, torch.full((len(x),), t, device=self.device))
        now = self.alphas_cumprod[t]
        x_0 = (x - (1 - now).sqrt() * eps) / now.sqrt()
        if self.stride is None:
            return x_0
        then = self.alphas_cumprod[max(0, (t - 1) // self.stride * self.stride)]
        return then.sqrt() * x_0 + (1 - then).sqrt() * eps


def reference_times(start: int, stride: int | None) -> list[int]:
    """The times of the network calls on the way down from `start`."""
    if stride is None or start == 0:
        return [start]
    return [start, *range((start - 1) // stride * stride, -1, -stride)]


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _as_colour(images: Tensor) -> Tensor:
    pad = [part for side in images.shape[:1:-1] for part in 2 * [max(0, LEAST_SIDE - side) // 2]]
    return nn.functional.pad(images, pad).repeat(1, 3, 1, 1)


def reference_training_step(
    model: Diffusion,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    precision: str = "fp32",
) -> float:
    """One eager step on the ε objective, on the device of the images."""
    t = torch.randint(0, model.schedule.num_timesteps, (len(images),))
    noise = torch.randn_like(images)
    optimizer.zero_grad(set_to_none=True)
    with _autocast(images.device, precision):
        x_t = model.schedule.add_noise(images, noise, t)
        prediction = model.network(x_t, t.to(images.device))
        loss = nn.functional.mse_loss(prediction.float(), noise)
    loss.backward()
    optimizer.step()
    return loss.item()
