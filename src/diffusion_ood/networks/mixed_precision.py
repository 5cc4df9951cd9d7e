"""A U-Net's last convolution in fp32, whatever autocast does elsewhere.

It has as few output channels as an image and so next to no share of the work, and to round the
noise that is found is much of what bf16 does to a network's output: roundings before it are spread
over many channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _FullPrecision(nn.Module):
    """A convolution that is computed in the dtype of its weights."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, K, *S)`."""
        with torch.autocast(x.device.type, enabled=False):
            output: Tensor = super().forward(x.to(self.weight.dtype))
        return output


class FullPrecisionConv2d(_FullPrecision, nn.Conv2d):
    """Of images."""


class FullPrecisionConv3d(_FullPrecision, nn.Conv3d):
    """Of volumes."""


def keep_last_layer_in_full_precision(network: Any) -> None:  # noqa: ANN401 - MONAI's U-Net
    """Replace a U-Net's last convolution by one of these kinds, which takes over its weights."""
    layer = network.out[-1]
    old = layer.conv
    kind = FullPrecisionConv2d if isinstance(old, nn.Conv2d) else FullPrecisionConv3d
    sizes = (old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    own = kind(*sizes, device="meta")  # no weights are drawn: the random numbers stay in step
    own.weight, own.bias = old.weight, old.bias
    layer.conv = own
