"""What a score of reconstructions is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Scorer(Protocol):
    """A score at work on one batch of images."""

    def update(self, image: Tensor, draw: Tensor, reconstructions: Tensor) -> None:
        """Take in reconstructions `(n, C, *S)` in [0, 1] of these images (n,) and draws (n,)."""

    def compute(self, images: Tensor) -> Tensor:
        """Every column of these images (n,), whose draws were all taken in: `(n, draws, columns)`.

        float32, on the CPU.
        """


class Score(Protocol):
    """How far reconstructions are from their images; higher means more out of distribution."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in the table."""

    def begin(self, images: Tensor, draws: int) -> Scorer:
        """Begin with images `(B, C, *S)` in [0, 1], of each of which so many draws will come."""


class PairScore:
    """A score of each reconstruction by itself.

    A subclass has a `name`, which is its column's, `reference` and `__call__`. What it needs of the
    images themselves is computed once, whatever the number of their reconstructions.
    """

    name: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.name,)

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is needed of images `(B, C, *S)` in [0, 1]; batch first in each."""
        return (images,)

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of `(B, C, *S)` in [0, 1] against the same rows of a reference."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores")

    def begin(self, images: Tensor, draws: int) -> Scorer:
        """Begin with images `(B, C, *S)` in [0, 1]."""
        return _PairScorer(self, images, draws)


class _PairScorer:
    def __init__(self, score: PairScore, images: Tensor, draws: int) -> None:
        self._score = score
        self._reference = score.reference(images)
        self._device = images.device
        self._values = images.new_full((len(images), draws, 1), float("nan"), device="cpu")

    def update(self, image: Tensor, draw: Tensor, reconstructions: Tensor) -> None:
        """As `Scorer` says."""
        rows = tuple(part[image.to(self._device)] for part in self._reference)
        self._values[image, draw, 0] = self._score(rows, reconstructions).float().cpu()

    def compute(self, images: Tensor) -> Tensor:
        """As `Scorer` says."""
        return self._values[images]
