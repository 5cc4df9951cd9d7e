"""The classifier's loss, cross-entropy on flipped and shifted images, and its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import mirrored
from diffusion_ood.runtime import distributed

Network = Callable[..., tuple[Tensor, Tensor]]
"""Maps `(B, C, *S)` in [0, 1] to logits `(B, K)` and features `(B, F)`."""


class ClassificationObjective:
    """Cross-entropy of randomly mirrored and shifted images.

    Args:
        flip: mirror half of the images left to right.
        padding: width of the black border from which the image is cropped at random, in pixels.
    """

    def __init__(self, *, flip: bool, padding: int) -> None:
        self.flip = flip
        self.padding = padding

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

        Args:
            network: the network to train.
            images: shape `(b, C, *S)` in [0, 1], on the device.
            n: images in the global batch, for which flips and shifts are drawn.
            shard: selects this process's images of the global batch.
            seed: of this step.
            labels: the classes, shape (b,), on the device.
        """
        generator = torch.Generator().manual_seed(seed)
        flips = torch.rand(n, generator=generator)[shard] < 0.5
        shifts = torch.randint(2 * self.padding + 1, (n, images.ndim - 2), generator=generator)[
            shard
        ]
        if self.flip:
            images = mirrored(images, flips)
        logits, _ = network(shifted(images, shifts, self.padding))
        assert labels is not None, "a classifier needs labels"
        return functional.cross_entropy(logits.to(images.dtype), labels, reduction="none")


def shifted(images: Tensor, shifts: Tensor, padding: int) -> Tensor:
    """Images `(B, C, *S)` padded with 0 on every side and cropped at their shifts.

    Args:
        images: shape `(B, C, *S)`.
        shifts: of each image and axis, 0 … 2·padding, shape (B, len(S)); `padding` is the centre.
        padding: pixels on each side.
    """
    windows = functional.pad(images, [padding] * 2 * (images.ndim - 2))
    for axis, side in enumerate(images.shape[2:], start=2):
        places = shifts[:, axis - 2, None] + torch.arange(side)
        alone = [len(images), *[1] * (images.ndim - 1)]
        alone[axis] = side
        index = places.to(images.device).view(alone)
        shape = list(windows.shape)
        shape[axis] = side
        windows = windows.gather(axis, index.expand(shape))
    return windows


@torch.inference_mode()
def accuracy(
    network: nn.Module, images: ImageSet, batches: Sequence[list[int]], names: tuple[str, ...]
) -> tuple[float, float]:
    """The accuracy, from 0 to 1, and the mean cross-entropy.

    Args:
        network: the classifier, in evaluation mode.
        images: the images to classify.
        batches: the indices to use, in batches; each process takes its shard.
        names: of the classes.
    """
    device = next(network.parameters()).device
    classes = class_numbers(images.split, names)
    total = torch.zeros(3, dtype=torch.float64)
    for batch in distributed.shard(batches):
        logits, _ = network(images.batch(batch).to(device))
        logits, expected = logits.double().cpu(), classes[batch]
        right = (logits.argmax(1) == expected).sum().item()
        loss = functional.cross_entropy(logits, expected, reduction="sum").item()
        total += torch.tensor([right, loss, len(batch)], dtype=torch.float64)
    right, loss, count = distributed.sum_over_processes(total.to(device).float()).tolist()
    return right / count, loss / count
