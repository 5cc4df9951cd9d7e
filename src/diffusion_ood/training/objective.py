"""What is minimised: the diffusion loss on drawn times, and on fixed ones for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.diffusion.model import DiffusionModel
from diffusion_ood.runtime import distributed
from diffusion_ood.trajectories.noise import image_noise

Network = Callable[[Tensor, Tensor], Tensor]

LEVELS_PER_IMAGE = 4  # of a validation image: one in each quarter of the times


class DiffusionObjective:
    """The denoiser's loss with times drawn evenly from 0 … max_t − 1.

    Args:
        model: the diffusion model.
        max_t: one more than the last time that is trained.
    """

    def __init__(self, model: DiffusionModel, max_t: int) -> None:
        self.model = model
        self.max_t = max_t

    def loss(self, network: Network, images: Tensor, n: int, mine: slice, seed: int) -> Tensor:
        """Losses (b,) of this process's b images of a global batch of n.

        Noise and times are drawn for the global batch, so that they do not depend on how many
        processes share it.

        Args:
            network: what is trained.
            images: shape `(b, C, *S)` in [0, 1], on the device.
            n: images in the global batch.
            mine: which of the global batch they are.
            seed: of this step.
        """
        on_device = torch.Generator(images.device).manual_seed(seed)
        on_cpu = torch.Generator().manual_seed(seed)
        shape = (n, *images.shape[1:])
        eps = torch.randn(shape, generator=on_device, device=images.device)[mine]
        t = torch.randint(self.max_t, (n,), generator=on_cpu)[mine]
        return self.model.denoiser(network).loss(self.model.to_model(images), eps, t)

    @torch.inference_mode()
    def validation_loss(
        self, network: Network, images: ImageSet, batches: Sequence[list[int]], seed: int
    ) -> float:
        """Mean loss over all processes' images, each at the same few times with the same noise.

        Args:
            network: what is validated.
            images: the validation images.
            batches: all of their indices, in batches; each process takes its share.
            seed: of the fixed noise and times.
        """
        device = next(self.model.network.parameters()).device
        total = torch.zeros(2, dtype=torch.float64)
        denoiser = self.model.denoiser(network)
        for batch in distributed.share_of(batches):
            x_0 = self.model.to_model(images.batch(batch).to(device))
            keys = [images.split.images[index] for index in batch]
            for t in self._fixed_times(batch, seed):
                times = t.tolist()
                draws = [
                    image_noise(x_0.shape[1:], seed, key, time)
                    for key, time in zip(keys, times, strict=True)
                ]
                losses = denoiser.loss(x_0, torch.stack(draws).to(device), t)
                total += torch.tensor([losses.double().sum().item(), len(batch)])
        loss, count = distributed.sum_over_processes(total.to(device).float()).tolist()
        return loss / count

    def _fixed_times(self, batch: list[int], seed: int) -> Iterator[Tensor]:
        """For each quarter of the times, one time per image of the batch."""
        for quarter in range(LEVELS_PER_IMAGE):
            share = [
                torch.rand(1, generator=torch.Generator().manual_seed(seed + index)).item()
                for index in batch
            ]
            t = (quarter + torch.tensor(share)) / LEVELS_PER_IMAGE * self.max_t
            yield t.long().clamp(max=self.max_t - 1)
