"""LPIPS, the learned perceptual image patch similarity (Zhang et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_ood.methods.scores.base import PairScore
from diffusion_ood.networks.alexnet import require_alexnet_features
from diffusion_ood.runtime.imports import without_deprecation_notices

with without_deprecation_notices():
    import lpips

MIN_SIDE = 32  # AlexNet's pooling has nothing left of a smaller image


class PerceptualDifference(PairScore):
    """LPIPS v0.1 with AlexNet, for images and volumes in [0, 1].

    Grey images are repeated to three channels, and sides below 32 pixels are padded with black to
    32. A volume's distance is the mean over all its slices in the three directions.

    Args:
        alexnet_features: AlexNet's `features.<layer>.{weight,bias}`, see `networks.alexnet`; by
            default those in torch's cache.

    Raises:
        UserError: no weights are given and there are none in the cache.
    """

    name = "perceptual_difference"

    def __init__(self, alexnet_features: dict[str, Tensor] | None = None) -> None:
        alexnet_features = alexnet_features or require_alexnet_features()
        with without_deprecation_notices():
            self._lpips = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        self._lpips.requires_grad_(False)
        convolutions = {
            name: module
            for _, part in self._lpips.net.named_children()
            for name, module in part.named_children()
        }
        for name, weight in alexnet_features.items():
            _, layer, kind = name.split(".")
            getattr(convolutions[layer], kind).data.copy_(weight)

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """Unit-length features of images `(B, C, *S)`, a tensor a layer."""
        self._lpips.to(images.device)
        # One image alone would be rounded by another kernel than the same among others.
        rows = images.expand(2, *images.shape[1:]) if len(images) == 1 else images
        features = self._lpips.net(self._lpips.scaling_layer(_as_lpips_input(rows)))
        # (B, slices, C', H', W'): the batch first, as every score's reference has it
        return tuple(
            lpips.normalize_tensor(layer).unflatten(0, (len(rows), -1))[: len(images)]
            for layer in features
        )

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of reconstructions `(B, C, *S)`: Zhang et al. (2018), equation 1."""
        total = torch.zeros(len(reconstructions), device=reconstructions.device)
        layers = zip(reference, self.reference(reconstructions), self._lpips.lins, strict=True)
        for expected, found, weigh in layers:
            difference = weigh((expected - found).square().flatten(0, 1))
            total += difference.flatten(1).mean(1).unflatten(0, (len(total), -1)).mean(1)
        return total


def _as_lpips_input(images: Tensor) -> Tensor:
    """`(B·slices, 3, H, W)` in [−1, 1] of `(B, C, *S)` in [0, 1]."""
    if images.ndim == 5:
        # A slice of each direction has other sides: all are padded to the longest.
        longest = max(images.shape[2:])
        views = [_padded(images.movedim(axis, 1).flatten(0, 1), longest) for axis in (2, 3, 4)]
        per_image = [view.unflatten(0, (len(images), -1)) for view in views]
        images = torch.cat(per_image, dim=1).flatten(0, 1)
    return 2 * _padded(images, MIN_SIDE).expand(-1, 3, -1, -1) - 1


def _padded(images: Tensor, side: int) -> Tensor:
    """`(B, C, H, W)` with black around it, so that no side is below `side`."""
    missing = [max(0, side - length) for length in (images.shape[3], images.shape[2])]
    return functional.pad(images, [part for m in missing for part in (m // 2, m - m // 2)])
