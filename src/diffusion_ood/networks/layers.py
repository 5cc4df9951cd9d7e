"""Layers that take the place of MONAI's in a U-Net, under the same names of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks.backend import UPSAMPLINGS, AttentionBlock, SABlock


class ChannelwiseGroupNorm(nn.GroupNorm):
    """y = γ·(x − μ)/√(σ² + ε) + β, with μ and σ² of an image over a group of channels.

    Where a compiled program for a CPU runs it, the moments are first taken of each channel. torch's
    compiler takes those of a group in one loop over the group's channels, which lie next to each
    other; with 32 groups these are 1 to 8, and the rest of a vector of 16 is idle. Everywhere else
    torch's own kernels run.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)`, normalised."""
        if torch.compiler.is_compiling() and x.device.type == "cpu":
            scale, shift = self._scale_and_shift(x)
            spread = (*scale.shape, *[1] * (x.ndim - 2))
            return (x.to(scale) * scale.view(spread) + shift.view(spread)).to(x.dtype)
        return super().forward(x)

    @torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator] # torch's
    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What every channel of `(B, C, *S)` is to be multiplied by and what added, (B, C) each."""
        batch, channels, *sides = x.shape
        pixels = tuple(range(2, x.ndim))
        spread = (batch, channels, *[1] * len(sides))
        grouped = (batch, self.num_groups, -1)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        # Sums of squares cancel where the mean is large: a pixel's value, near it, is taken off.
        pivot = wide.flatten(2)[:, :, :1].detach().view(spread)
        centred = wide - pivot
        offset = centred.mean(pixels)
        variances = (centred.square().mean(pixels) - offset.square()).view(grouped)
        means = (offset + pivot.view(batch, channels)).view(grouped)
        mean = means.mean(-1)
        between = (means - mean.unsqueeze(-1)).square()
        deviation = ((variances + between).mean(-1).clamp_min(0) + self.eps).rsqrt()
        # Matrix products lay scale and shift out by channel. The compiler would put a broadcast,
        # with its division of indices, into the loop over all pixels, at several times its cost.
        groups = torch.eye(self.num_groups, dtype=wide.dtype)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        weights = (groups.unsqueeze(-1) * weight.view(self.num_groups, -1)).flatten(1)
        scale = deviation @ weights
        shift = torch.addmm(bias, -mean * deviation, weights)
        return scale, shift


class Upsampling(nn.Module):
    """MONAI's upsampling: an image whose pixels are repeated, and the original's convolution of it.

    Compiled, its gradient is a sum; that of an interpolation would be a scatter.
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


class _FullPrecision(nn.Module):
    """A convolution that is computed in the dtype of its weights, whatever autocast does elsewhere.

    A U-Net's last one has as few output channels as an image and so next to no share of the work,
    and to round the noise that is found is much of what bf16 does to a network's output: roundings
    before it are spread over many channels.
    """

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


def is_fused(query: Tensor) -> bool:
    """Whether attention is one kernel, that does not keep what each place looks at.

    On CUDA alone, where of `big` at 64² this is 168 MB an image (4,096² pairs, in bf16 and twice in
    fp32); and without gradients alone, as these would be summed in any order.
    """
    return query.is_cuda and not torch.is_grad_enabled()


class FusedAttentionBlock(AttentionBlock):
    """monai-generative's."""

    def _attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`(B, T, c)` of a head."""
        if not is_fused(query):
            plain: Tensor = super()._attention(query, key, value)
            return plain
        q, k, v = (part.unsqueeze(1) for part in (query, key, value))
        return functional.scaled_dot_product_attention(q, k, v, scale=self.scale).squeeze(1)


class FusedSABlock(SABlock):
    """MONAI core's."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """`(B, T, C)`."""
        if not is_fused(x) or attn_mask is not None:
            plain: Tensor = super().forward(x, attn_mask)
            return plain
        q, k, v = (self.input_rearrange(part(x)) for part in (self.to_q, self.to_k, self.to_v))
        found = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        output: Tensor = self.out_proj(self.out_rearrange(found))
        return output


FUSED = {AttentionBlock: FusedAttentionBlock, SABlock: FusedSABlock}


def replace_layers(network: nn.Module) -> None:
    """Replace a U-Net's group normalisation, attention, upsampling and last convolution, in place.

    The normalisation gets fresh weights, all others keep theirs; no random number is drawn.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.GroupNorm):
            norm = ChannelwiseGroupNorm(module.num_groups, module.num_channels, module.eps)
            network.set_submodule(name, norm)
        elif isinstance(module, UPSAMPLINGS):
            network.set_submodule(name, Upsampling(module))
        elif type(module) in FUSED:
            module.__class__ = FUSED[type(module)]
    *_, last = network.get_submodule("out").children()
    old: Any = last.conv
    kind = FullPrecisionConv2d if isinstance(old, nn.Conv2d) else FullPrecisionConv3d
    sizes = (old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    own = kind(*sizes, device="meta")
    own.weight, own.bias = old.weight, old.bias
    last.conv = own
