"""ResNets for small images: no pooling in the stem, and features beside the logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import ResNet
from diffusion_ood.networks.weights import load_weights
from diffusion_ood.options import ClassifierOptions
from diffusion_ood.options.stored import (
    stored_classes,
    stored_entry,
    stored_options,
    stored_shape,
)
from diffusion_ood.registries import CLASSIFIERS
from diffusion_ood.runtime.checkpoint import load_checkpoint

# resnet18 is OpenOOD's `resnet18_32x32`; narrow has an eighth of its channels, for a CPU.
RESNET18, NARROW = (64, 128, 256, 512), (8, 16, 32, 64)


def load_classifier(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a checkpoint, and the rest of it.

    Raises:
        UserError: no checkpoint of `train_classifier.py` is there.
    """
    content = load_checkpoint(path)
    options = stored_options(ClassifierOptions, content, path)
    network = Classifier(options, stored_shape(content, path))
    if not stored_classes(content, path):
        raise UserError(f"{path}: found a classifier without classes, expected their names")
    wrong = f"{path}: found other weights than a classifier's"
    load_weights(network, stored_entry("weights", content, path), wrong)
    network.eval()
    return network, content


class Classifier(nn.Module):
    """A ResNet-18 (He et al. 2016) with a 3 × 3 stem of stride 1, on images `(C, *S)` in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, options: ClassifierOptions, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, *sides = image_shape
        widths: tuple[int, ...] = CLASSIFIERS[options.classifier_type]
        self.resnet: Any = ResNet(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=list(widths),
            spatial_dims=len(sides),
            n_input_channels=channels,
            conv1_t_size=3,
            conv1_t_stride=1,
            no_max_pool=True,
            bias_downsample=False,
            num_classes=options.num_classes,
        )
        # As buffers they are saved with the weights, and every user normalises alike.
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, K)` and pooled features `(B, F)` ≥ 0 of images `(B, C, *S)` in [0, 1]."""
        shape = (1, -1, *[1] * (images.ndim - 2))
        net = self.resnet
        x = net.act(net.bn1(net.conv1((images - self.mean.view(shape)) / self.std.view(shape))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        features = x.flatten(2).mean(2)
        return net.fc(features), features
