"""Features of images by AlexNet's convolutions, where no better network is at hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import alexnet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
MIN_SIDE = 64  # smaller images are enlarged, so that the last layer has something to average


class AlexNetFeatures(nn.Module):
    """256 features: the last convolution of torchvision's AlexNet, averaged over the image.

    Args:
        weights: AlexNet's `features.<layer>.{weight,bias}`, see `networks.alexnet`.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        network = alexnet()
        network.load_state_dict(weights, strict=False)
        self.features = network.features[:-1].eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, 256)` of images `(B, 1 or 3, H, W)` in [0, 1]."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        if min(images.shape[2:]) < MIN_SIDE:
            scale = MIN_SIDE / min(images.shape[2:])
            images = functional.interpolate(images, scale_factor=scale, mode="bilinear")
        return self.features((images.expand(-1, 3, -1, -1) - mean) / std).mean((2, 3))
