"""What a score is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Score(Protocol):
    """A distance of reconstructions to their images; higher means more out of distribution."""

    name: str
    """The score's column in the table."""

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is needed of images `(B, C, *S)` in [0, 1], computed once; batch first in each."""

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of `(B, C, *S)` in [0, 1] against the same rows of a reference."""
