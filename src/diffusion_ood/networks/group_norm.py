"""Group normalisation in a form that torch's compiler makes vector instructions of on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_ood.networks.replacing import replace_modules


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


def normalise_by_channel(network: nn.Module) -> None:
    """Let a network's group normalisation, of fresh weights, be `ChannelwiseGroupNorm`."""
    replace_modules(
        network,
        nn.GroupNorm,
        lambda norm: ChannelwiseGroupNorm(norm.num_groups, norm.num_channels, norm.eps),
    )
