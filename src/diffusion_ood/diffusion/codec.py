"""Codecs: images in [0, 1] to what the diffusion model sees, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Codec(Protocol):
    """Images to the diffusion model's x and back, on their own device and without clamping."""

    @property
    def limits(self) -> tuple[float, float]:
        """The range of x."""

    def encode(self, images: Tensor) -> Tensor:
        """Images `(B, C, *S)` in [0, 1] to x `(B, c, *s)`."""

    def decode(self, x: Tensor) -> Tensor:
        """X `(B, c, *s)` to images `(B, C, *S)`, which may lie outside [0, 1]."""


@dataclass(frozen=True)
class PixelCodec:
    """The pixels themselves in another range: [0, b], or [−b, b].

    Args:
        data_range: `01` or `pm1`.
        b_scale: b (Chen 2023).
    """

    data_range: str
    b_scale: float

    @property
    def limits(self) -> tuple[float, float]:
        """The range of x."""
        return -self.b_scale if self.data_range == "pm1" else 0.0, self.b_scale

    def encode(self, images: Tensor) -> Tensor:
        """`b·y` or `b·(2y − 1)` of images y."""
        return self.b_scale * (2 * images - 1 if self.data_range == "pm1" else images)

    def decode(self, x: Tensor) -> Tensor:
        """`x/b` or `(x/b + 1)/2`."""
        images = x / self.b_scale
        return (images + 1) / 2 if self.data_range == "pm1" else images
