"""The denoising U-Net in its sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import diffusion_unet
from diffusion_ood.networks.layers import replace_layers
from diffusion_ood.registries import SIZES


@dataclass(frozen=True)
class UNetSize:
    """One size of the U-Net: channels, attention and blocks a level, channels an attention head.

    `norm_num_groups` divides the channels of every level.
    """

    channels: tuple[int, ...]
    attention_levels: tuple[bool, ...]
    num_res_blocks: int
    num_head_channels: int
    attention_projection: bool = False
    norm_num_groups: int = 32

    @property
    def stride(self) -> int:
        """Every image side must be a multiple of this."""
        return 2 ** (len(self.channels) - 1)


# micro is for volumes on a CPU: a call costs a quarter of tiny's, as it has half the channels where
# there are the most voxels.
MICRO = UNetSize((16, 32, 64), (False, False, True), 1, 64, norm_num_groups=16)
# small and big are those of Graham et al. (2023); tiny has 1.1 million parameters, for a CPU;
# ddim32 is the U-Net of Ho et al. (2020) and DDIM for CIFAR10, of 35.7 million parameters.
TINY = UNetSize((32, 64, 64), (False, False, True), 1, 64)
SMALL = UNetSize((128, 256, 256), (False, False, True), 1, 256)
BIG = UNetSize((256, 512, 768), (True, True, True), 2, 256)
DDIM32 = UNetSize((128, 256, 256, 256), (False, True, False, False), 2, 256, True)


def activation_values(model_type: str, image_shape: tuple[int, ...]) -> int:
    """Numbers in the activation of one image `(C, *S)` at its full size."""
    channels: int = SIZES[model_type].channels[0]
    return channels * math.prod(image_shape[1:])


def lacking(model_type: str, sides: Sequence[int]) -> tuple[int, ...]:
    """How much is lacking of each side to be one that the U-Net's levels can halve."""
    stride: int = SIZES[model_type].stride
    return tuple(-side % stride for side in sides)


def build_unet(
    model_type: str, image_shape: tuple[int, ...], num_labels: int | None = None
) -> nn.Module:
    """A U-Net with fresh weights that maps `(B, C, *S)` and times `(B,)` to `(B, C, *S)`.

    Args:
        model_type: a key of `SIZES`.
        image_shape: `(C, *S)` of one image, two or three sides.
        num_labels: with it, the network also takes `class_labels` `(B,)` below it; their embedding
            is added to that of the time.

    Raises:
        UserError: an unknown size, or a side that the U-Net's levels cannot halve.
    """
    if model_type not in SIZES:
        raise UserError(f"`model_type`: found {model_type!r}, expected one of {', '.join(SIZES)}")
    size: UNetSize = SIZES[model_type]
    channels, *sides = image_shape
    if any(lacking(model_type, sides)):
        raise UserError(
            f"`model_type` {model_type}: found images of {' × '.join(map(str, sides))} pixels, "
            f"expected sides that are multiples of {size.stride}; give `image_size` or `image_roi`"
        )
    network = diffusion_unet(
        channels=size.channels,
        spatial_dims=len(sides),
        in_channels=channels,
        out_channels=channels,
        num_res_blocks=size.num_res_blocks,
        attention_levels=size.attention_levels,
        num_head_channels=size.num_head_channels,
        attention_projection=size.attention_projection,
        norm_num_groups=size.norm_num_groups,
        num_class_embeds=num_labels,
    )
    replace_layers(network)
    return network


def add_dropout(network: nn.Module, share: float) -> None:
    """Dropout of 0 ≤ share < 1 before the second convolution of a U-Net's residual blocks.

    It acts in training alone. That is where Ho et al. (2020) have it and MONAI has none. It is a
    hook on the convolution, so that the names of the weights stay as they are.
    """
    for module in network.modules():
        if hasattr(module, "time_emb_proj") and share > 0:  # what residual blocks alone have
            convolution: Any = module.conv2
            convolution.register_forward_pre_hook(partial(_drop, share))


def _drop(share: float, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return functional.dropout(inputs[0], share, module.training)
