"""A U-Net's first and last convolution, without the rounding that autocast brings to images.

They have as few channels as an image on one side and so next to no share of the work. To round the
noisy image, and the noise that is found in it, is most of what bf16 does to a network's output:
between them roundings are spread over many channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.networks.replacing import mixed_in


class First(nn.Module):
    """Mixed into a convolution: under autocast its input is a sum of two numbers of few bits."""

    weight: Tensor
    bias: Tensor | None
    _conv_forward: Any

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, K, *S)`."""
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            # By its bits, since torch's compiler leaves out a rounding that is taken back at once.
            upper = (x.float().view(torch.int32) & -(1 << 16)).view(torch.float32)
            x = torch.cat([upper, x - upper], dim=1)
            weight = torch.cat([weight, weight], dim=1)
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class Last(nn.Module):
    """Mixed into a convolution: it is computed in the dtype of its weights."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, K, *S)`."""
        with torch.autocast(x.device.type, enabled=False):
            output: Tensor = super().forward(x.to(self.weight.dtype))
        return output


_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_FIRST, _LAST = mixed_in(First, _CONVOLUTIONS), mixed_in(Last, _CONVOLUTIONS)


def exact_ends(network: Any) -> None:  # noqa: ANN401 - MONAI's U-Net, of either package
    """Let the first and last convolution of a U-Net be of the kinds above; their weights stay."""
    for convolution, own in ((network.conv_in.conv, _FIRST), (network.out[-1].conv, _LAST)):
        convolution.__class__ = own[type(convolution)]
