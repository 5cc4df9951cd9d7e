"""What needs no trained model: a detector that is below these on a set has found nothing else.

The mean and the spread of the pixels, the bits of the compressed image, and ‖ε̂‖² by the same
network before any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.diffusion.levels import nearest_level
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.compressed import compressed_bits
from diffusion_ood.methods.pointwise import Answers, Point, PointwiseMethod, noise_of
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(kw_only=True, eq=False)
class Controls(PointwiseMethod):
    """Numbers of an image that no training has a part in, a row an image.

    Args:
        log_snr: of the level at which the untrained network is asked, as that of images in [−1, 1].
        seed: of the noise and of the untrained network's weights.
    """

    name = "controls"
    directed = False
    columns = ("pixel_mean", "pixel_std", "compressed_bits", "untrained_eps_sq")

    log_snr: float = 5.0
    seed: int = 2
    _network: nn.Module | None = field(default=None, repr=False)

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Controls:
        """With the seed that `reconstruct.py` is asked for."""
        return cls(seed=options.seed)

    def _level(self, diffusion: Diffusion) -> int:
        return nearest_level(diffusion.schedule, diffusion.codec.limits, self.log_snr)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """One."""
        return [(self._level(diffusion), 0)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The level and the seed."""
        return {"level": self._level(diffusion), "seed": self.seed}

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """None of the trained network."""
        return ()

    def further_calls(self, diffusion: Diffusion) -> int:
        """One of the untrained network."""
        return 1

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, 1, columns)`."""
        diffusion = evaluator.diffusion
        level = self._level(diffusion)
        x_0 = batch.forms(diffusion).x
        t = torch.full((len(batch),), level)
        x_t = diffusion.schedule.add_noise(x_0, noise_of(batch, x_0, self.seed, Point(level)), t)
        if self._network is None:
            self._network = untrained(diffusion, self.seed).to(x_t.device)
        denoiser = diffusion.denoiser(self._network)
        parts = x_t.split(evaluator.max_batch)
        eps = torch.cat([denoiser(part, t[: len(part)]) for part in parts])
        pixels = batch.images.flatten(1)
        compressed = [compressed_bits(image) for image in batch.images.cpu()]
        columns = [pixels.mean(1), pixels.std(1), pixels.new_tensor(compressed)]
        return torch.stack([*columns, eps.square().flatten(1).sum(1)], 1)[:, None]


def untrained(diffusion: Diffusion, seed: int) -> nn.Module:
    """A network of the model's kind with random weights, also where they begin as zeros."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Diffusion(diffusion.options, diffusion.image_shape, codec=diffusion.codec).network
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network.eval()
