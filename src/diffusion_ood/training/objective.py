"""The diffusion loss at random times for training, and at fixed times for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import mirrored
from diffusion_ood.model import Diffusion
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.training.trainer import Batch, DrawnLoss, Network
from diffusion_ood.trajectories.noise import image_noise

LEVELS_PER_IMAGE = 4  # of a validation image: one in each quarter of the times


@dataclass
class DiffusionObjective:
    """The denoiser's loss at times drawn uniformly from 0 … max_t − 1.

    Args:
        model: the diffusion model.
        max_t: one more than the largest time.
        encode: makes x of a batch's images; by default the model's codec.
        label_dropout: probability that a class is replaced by the null label.
        antithetic: draw the times in pairs t, max_t − 1 − t, so that their mean is the same in
            every even batch.
        flip: mirror half of the images left to right.
    """

    model: Diffusion
    max_t: int
    _: KW_ONLY
    encode: Callable[[Tensor], Tensor] | None = None
    label_dropout: float = 0.0
    antithetic: bool = False
    flip: bool = False

    @property
    def loss(self) -> DrawnLoss:
        """Losses (b,), by the noise, times, dropped labels and flips of a step's seed."""
        return DrawnLoss(self._drawn, self._losses)

    def _drawn(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """What a step computes with; every number is of the seed and the image's place in it."""
        images, labels, n = batch.images, batch.labels, batch.n
        device = images.device
        on_device = torch.Generator(device).manual_seed(seed)
        on_cpu = torch.Generator().manual_seed(seed)
        shape = (n, *self.model.x_shape)
        eps = torch.randn(shape, generator=on_device, device=device)[batch.shard]
        t = self._times(n, on_cpu)[batch.shard]
        if device.type == "cuda":  # elsewhere the schedule answers on the CPU
            t = to_device(t, device)
        found = {"eps": eps, "t": t}
        if labels is not None:
            dropped = torch.rand(n, generator=on_cpu)[batch.shard] < self.label_dropout
            null = self.model.options.num_classes
            found["labels"] = to_device(
                torch.where(dropped.to(labels.device), null, labels), device
            )
        if self.flip:
            flipped = torch.rand(n, generator=on_cpu)[batch.shard] < 0.5
            images = mirrored(images, flipped, self.model.image_options)
        return {**found, "x_0": self._encoded(images)}

    def _losses(self, network: Network, drawn: dict[str, Tensor]) -> Tensor:
        labels = drawn.get("labels")
        return self.model.denoiser(network).loss(drawn["x_0"], drawn["eps"], drawn["t"], labels)

    def _encoded(self, images: Tensor) -> Tensor:
        return (self.encode or self.model.codec.encode)(images)

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

        Times and noise come from the seed. Each process takes its shard of the batches, which hold
        all indices of the images; `names` are those of the classes of a conditional network.
        """
        device = next(self.model.network.parameters()).device
        total = torch.zeros(2, dtype=torch.float64)
        denoiser = self.model.denoiser(network)
        classes = class_numbers(images.split, names) if names else None
        for batch in distributed.shard(batches):
            x_0 = self._encoded(images.batch(batch).to(device))
            keys = [images.split.images[index] for index in batch]
            labels = None if classes is None else classes[batch]
            for t in self._fixed_times(batch, seed):
                pairs = zip(keys, t.tolist(), strict=True)
                eps = torch.stack([image_noise(x_0.shape[1:], seed, *pair) for pair in pairs])
                losses = denoiser.loss(x_0, eps.to(device), t, labels)
                total += torch.tensor([losses.double().sum().item(), len(batch)])
        loss, count = distributed.sum_over_processes(total.to(device).float()).tolist()
        return loss / count

    def _fixed_times(self, batch: list[int], seed: int) -> Iterator[Tensor]:
        """For each quarter of the times, one time per image of the batch."""
        generators = [torch.Generator().manual_seed(seed + index) for index in batch]
        offsets = torch.tensor([torch.rand(1, generator=one).item() for one in generators])
        for quarter in range(LEVELS_PER_IMAGE):
            t = (quarter + offsets) / LEVELS_PER_IMAGE * self.max_t
            yield t.long().clamp(max=self.max_t - 1)
