"""The U-Net's residual blocks and enlargements, several layers in one where that is faster.

That is where a compiled program for a CPU with AMX runs them on images in bf16 and takes no
gradient: there the convolutions are those of `networks/amx.py`. Everywhere else MONAI's own run,
except that an enlargement is a view where it is compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.networks import amx
from diffusion_ood.networks.backend import RESIDUAL_BLOCKS, UPSAMPLINGS
from diffusion_ood.networks.replacing import mixed_in


class FusedResidualBlock(nn.Module):
    """A residual block: twice normalisation, SiLU and convolution, in one each; added to its input.

    It is mixed into a block of MONAI's, whose parts it uses.
    """

    norm1: Any
    norm2: Any
    conv1: Any
    conv2: Any
    time_emb_proj: Any
    nonlinearity: Any
    skip_connection: Any
    up: bool
    down: bool

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """`(B, C, *S)` and the embedding of times `(B, E)` to `(B, K, *S)`."""
        resized = self.up or self.down
        if resized or not _is_faster(x, self.conv1.conv, self.conv2.conv):
            output: Tensor = super().forward(x, emb)
            return output
        time = self.time_emb_proj(self.nonlinearity(emb))
        h = _convolve(x, self.norm1, self.conv1.conv, time)
        return _convolve(h, self.norm2, self.conv2.conv, None, self.skip_connection(x))


class FusedUpsampling(nn.Module):
    """An image enlarged twofold, its pixels repeated, and a convolution of it.

    It is mixed into a module of MONAI's. Where it is compiled, the pixels are repeated by a view,
    since the compiler makes a scatter of single numbers of an interpolation's gradient.
    """

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """`(B, C, *S)` to `(B, K, *2·S)`; the embedding of times is not used."""
        kinds = (nn.Conv2d, nn.Conv3d)
        convolutions = [layer for layer in self.modules() if isinstance(layer, kinds)]
        if not torch.compiler.is_compiling() or len(convolutions) != 1:
            output: Tensor = super().forward(x, emb)
        elif _is_faster(x, *convolutions):
            output = amx.enlarged_convolution(x, convolutions[0].weight, _bias(convolutions[0]))
        else:
            output = convolutions[0](enlarged(x))
        return output


def enlarged(x: Tensor) -> Tensor:
    """Every pixel of `(B, C, *S)` twice along every side: `(B, C, *2·S)`, channels last."""
    batch, channels, *sides = x.shape
    rows = x.movedim(1, -1).reshape(
        batch, *[part for side in sides for part in (side, 1)], channels
    )
    repeated = rows.expand(batch, *[part for side in sides for part in (side, 2)], channels)
    return repeated.reshape(batch, *[2 * side for side in sides], channels).movedim(-1, 1)


def _is_faster(x: Tensor, *convolutions: nn.Module) -> bool:
    return (
        torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and not torch.is_grad_enabled()
        and all(amx.fits(convolution) for convolution in convolutions)
        and amx.is_there()
    )


def _convolve(
    x: Tensor,
    norm: Any,  # noqa: ANN401 - ChannelwiseGroupNorm, whose module need not be known here
    convolution: nn.Conv2d,
    added: Tensor | None,
    residual: Tensor | None = None,
) -> Tensor:
    scale, shift = norm.scale_and_shift(x)
    bias = _bias(convolution)
    biases = bias.float().expand(len(x), -1) if added is None else added.float() + bias
    return amx.silu_convolution(x, scale, shift, convolution.weight, biases, residual)


def _bias(convolution: nn.Conv2d | nn.Conv3d) -> Tensor:
    assert convolution.bias is not None  # by amx.fits
    return convolution.bias


_FUSED = mixed_in(FusedResidualBlock, RESIDUAL_BLOCKS) | mixed_in(FusedUpsampling, UPSAMPLINGS)


def fuse(network: nn.Module) -> None:
    """Let the modules of a network be of the kinds above; their weights and names stay."""
    for module in network.modules():
        if type(module) in _FUSED:
            module.__class__ = _FUSED[type(module)]
