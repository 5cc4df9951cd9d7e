"""The denoising U-Net in its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import diffusion_unet, own_names


@dataclass(frozen=True)
class UNetSize:
    """One size of the U-Net: channels, attention and blocks a level, channels an attention head."""

    channels: tuple[int, ...]
    attention_levels: tuple[bool, ...]
    num_res_blocks: int
    num_head_channels: int

    @property
    def stride(self) -> int:
        """Every image side must be a multiple of this."""
        return 2 ** (len(self.channels) - 1)


# small and big are those of Graham et al. (2023); tiny has 1.1 million parameters, for a CPU.
SIZES = {
    "tiny": UNetSize((32, 64, 64), (False, False, True), 1, 64),
    "small": UNetSize((128, 256, 256), (False, False, True), 1, 256),
    "big": UNetSize((256, 512, 768), (True, True, True), 2, 256),
}


def build_unet(model_type: str, image_shape: tuple[int, ...]) -> nn.Module:
    """A U-Net with fresh weights that maps `(B, C, *S)` and times `(B,)` to `(B, C, *S)`.

    Args:
        model_type: a key of `SIZES`.
        image_shape: `(C, *S)` of one image, two or three sides.

    Raises:
        UserError: a side that the U-Net's levels cannot halve.
    """
    size = SIZES[model_type]
    channels, *sides = image_shape
    if any(side % size.stride for side in sides):
        raise UserError(
            f"--model_type {model_type}: found images of {' × '.join(map(str, sides))} pixels, "
            f"expected sides that are multiples of {size.stride}; give --image_size or --image_roi"
        )
    return diffusion_unet(
        channels=size.channels,
        spatial_dims=len(sides),
        in_channels=channels,
        out_channels=channels,
        num_res_blocks=size.num_res_blocks,
        attention_levels=size.attention_levels,
        num_head_channels=size.num_head_channels,
    )


def load_weights(network: nn.Module, state_dict: dict[str, Any]) -> None:
    """Load weights that were saved under either of the packages that MONAI's networks come from."""
    network.load_state_dict(own_names(state_dict))
