"""Between two images: what of each goes into the noise, and what into the image (DiffOOD)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.schedule import CLEAN


def encoding_times(num_timesteps: int, steps: int) -> tuple[int, ...]:
    """The times from the clean image up to the noise that it comes from: CLEAN, δ, …, (steps−1)·δ.

    Passed the other way they decode. With δ = T // steps, as the levels of a reconstruction have.
    """
    stride = num_timesteps // steps
    return (CLEAN, *range(stride, steps * stride, stride))


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """`(sin((1−w)θ)·a + sin(wθ)·b) / sin θ`, θ the angle between the two (Shoemake 1985).

    Args:
        a, b: shape `(C, *S)`, of one image each; the angle is that of this pair alone.
        share: w, from 0 (a) to 1 (b).
    """
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(a, b, share)
    from_a, from_b = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return (from_a * a + from_b * b) / torch.sin(angle)
