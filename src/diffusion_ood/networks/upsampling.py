"""Twofold enlargement whose compiled gradient is a sum: of an interpolation's it is a scatter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks.backend import UPSAMPLINGS
from diffusion_ood.networks.replacing import replace_modules


class Upsampling(nn.Module):
    """MONAI's upsampling: an image whose pixels are repeated, and a convolution of it.

    Args:
        original: MONAI's module, whose convolution is taken over under its name.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        *_, (name, convolution) = original.named_children()
        self.add_module(name, convolution)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """`(B, C, *S)` to `(B, K, *2·S)`; the embedding of times is not used."""
        (convolution,) = self.children()
        if torch.compiler.is_compiling():
            return convolution(enlarged(x))
        return convolution(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


def enlarged(x: Tensor) -> Tensor:
    """Every pixel of `(B, C, *S)` twice along every side: `(B, C, *2·S)`, channels last."""
    batch, channels, *sides = x.shape
    single = [part for side in sides for part in (side, 1)]
    double = [part for side in sides for part in (side, 2)]
    rows = x.movedim(1, -1).reshape(batch, *single, channels)
    repeated = rows.expand(batch, *double, channels)
    return repeated.reshape(batch, *[2 * side for side in sides], channels).movedim(-1, 1)


def upsample_by_view(network: nn.Module) -> None:
    """Let a network's upsampling be `Upsampling`; its weights and their names stay."""
    for kind in UPSAMPLINGS:
        replace_modules(network, kind, Upsampling)
