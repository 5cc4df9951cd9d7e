"""The diffusion loss at random times for training, and at fixed times for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import mirrored
from diffusion_ood.model import Diffusion
from diffusion_ood.runtime import distributed
from diffusion_ood.trajectories.noise import image_noise

Network = Callable[..., Tensor]

LEVELS_PER_IMAGE = 4  # of a validation image: one in each quarter of the times


class DiffusionObjective:
    """The denoiser's loss at times drawn uniformly from 0 … max_t − 1.

    Args:
        model: the diffusion model.
        max_t: one more than the largest time.
        label_dropout: probability that a class is replaced by the null label.
        antithetic: draw the times in pairs t, max_t − 1 − t, so that their mean is the same in
            every even batch.
        flip: mirror half of the images left to right.
    """

    def __init__(
        self,
        model: Diffusion,
        max_t: int,
        *,
        label_dropout: float = 0.0,
        antithetic: bool = False,
        flip: bool = False,
    ) -> None:
        self.model = model
        self.max_t = max_t
        self.label_dropout = label_dropout
        self.antithetic = antithetic
        self.flip = flip

    def loss(
        self,
        network: Network,
        images: Tensor,
        n: int,
        shard: slice,
        seed: int,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Losses (b,) of this process's b images of a global batch of n.

        Noise, times, dropped labels and flips are drawn for the global batch, so that they do not
        depend on the number of processes.

        Args:
            network: the network to train.
            images: shape `(b, C, *S)` in [0, 1], on the device.
            n: images in the global batch.
            shard: selects this process's images of the global batch.
            seed: of this step.
            labels: the classes of the images, shape (b,).
        """
        on_device = torch.Generator(images.device).manual_seed(seed)
        on_cpu = torch.Generator().manual_seed(seed)
        shape = (n, *images.shape[1:])
        eps = torch.randn(shape, generator=on_device, device=images.device)[shard]
        t = self._times(n, on_cpu)[shard]
        if labels is not None:
            dropped = torch.rand(n, generator=on_cpu)[shard] < self.label_dropout
            null = self.model.options.num_classes
            labels = torch.where(dropped.to(labels.device), null, labels)
        if self.flip:
            images = mirrored(images, torch.rand(n, generator=on_cpu)[shard] < 0.5)
        return self.model.denoiser(network).loss(self.model.codec.encode(images), eps, t, labels)

    def _times(self, n: int, generator: torch.Generator) -> Tensor:
        """Times (n,) of a global batch, each uniform on 0 … max_t − 1."""
        if not self.antithetic:
            return torch.randint(self.max_t, (n,), generator=generator)
        half = torch.randint(self.max_t, (-(-n // 2),), generator=generator)
        return torch.cat([half, self.max_t - 1 - half])[:n]

    @torch.inference_mode()
    def validation_loss(
        self,
        network: Network,
        images: ImageSet,
        batches: Sequence[list[int]],
        seed: int,
        names: tuple[str, ...] = (),
    ) -> float:
        """Mean loss over all processes' images, each at the same few times with the same noise.

        Args:
            network: the network to validate.
            images: the validation images.
            batches: all of their indices, in batches; each process takes its shard.
            seed: of the fixed noise and times.
            names: of the classes, if the network is conditional.
        """
        device = next(self.model.network.parameters()).device
        total = torch.zeros(2, dtype=torch.float64)
        denoiser = self.model.denoiser(network)
        classes = class_numbers(images.split, names) if names else None
        for batch in distributed.shard(batches):
            x_0 = self.model.codec.encode(images.batch(batch).to(device))
            keys = [images.split.images[index] for index in batch]
            for t in self._fixed_times(batch, seed):
                times = t.tolist()
                draws = [
                    image_noise(x_0.shape[1:], seed, key, time)
                    for key, time in zip(keys, times, strict=True)
                ]
                labels = None if classes is None else classes[batch]
                losses = denoiser.loss(x_0, torch.stack(draws).to(device), t, labels)
                total += torch.tensor([losses.double().sum().item(), len(batch)])
        loss, count = distributed.sum_over_processes(total.to(device).float()).tolist()
        return loss / count

    def _fixed_times(self, batch: list[int], seed: int) -> Iterator[Tensor]:
        """For each quarter of the times, one time per image of the batch."""
        for quarter in range(LEVELS_PER_IMAGE):
            offsets = [
                torch.rand(1, generator=torch.Generator().manual_seed(seed + index)).item()
                for index in batch
            ]
            t = (quarter + torch.tensor(offsets)) / LEVELS_PER_IMAGE * self.max_t
            yield t.long().clamp(max=self.max_t - 1)
