"""Training a classifier: cross-entropy on flipped and shifted images, and accuracy."""

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
    """Cross-entropy of images that are mirrored and shifted at random.

    Args:
        flip: mirror half of the images left to right.
        padding: pixels of black around an image, out of which it is cropped back at random.
    """

    def __init__(self, *, flip: bool, padding: int) -> None:
        self.flip = flip
        self.padding = padding

    def loss(
        self,
        network: Network,
        images: Tensor,
        n: int,
        mine: slice,
        seed: int,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Losses (b,) of this process's b images of a global batch of n.

        Args:
            network: what is trained.
            images: shape `(b, C, *S)` in [0, 1], on the device.
            n: images in the global batch, for which flips and shifts are drawn.
            mine: which of the global batch they are.
            seed: of this step.
            labels: the classes, shape (b,), on the device.
        """
        generator = torch.Generator().manual_seed(seed)
        flips = torch.rand(n, generator=generator)[mine] < 0.5
        shifts = torch.randint(2 * self.padding + 1, (n, images.ndim - 2), generator=generator)[
            mine
        ]
        if self.flip:
            images = mirrored(images, flips)
        logits, _ = network(shifted(images, shifts, self.padding))
        assert labels is not None, "a classifier learns from labels"
        return functional.cross_entropy(logits.to(images.dtype), labels, reduction="none")


def shifted(images: Tensor, shifts: Tensor, padding: int) -> Tensor:
    """Images `(B, C, *S)` padded with 0 on every side, and of each the window at its shift.

    Args:
        images: shape `(B, C, *S)`.
        shifts: of each image and axis, 0 … 2·padding, shape (B, len(S)); `padding` moves nothing.
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
    """Share of the images that are classified right, and their mean cross-entropy.

    Args:
        network: what is tested.
        images: what on.
        batches: all of their indices that count, in batches; each process takes its share.
        names: of the classes.
    """
    device = next(network.parameters()).device
    classes = class_numbers(images.split, names)
    total = torch.zeros(3, dtype=torch.float64)
    for batch in distributed.share_of(batches):
        logits, _ = network(images.batch(batch).to(device))
        logits, expected = logits.double().cpu(), classes[batch]
        right = (logits.argmax(1) == expected).sum().item()
        loss = functional.cross_entropy(logits, expected, reduction="sum").item()
        total += torch.tensor([right, loss, len(batch)], dtype=torch.float64)
    right, loss, count = distributed.sum_over_processes(total.to(device).float()).tolist()
    return right / count, loss / count
