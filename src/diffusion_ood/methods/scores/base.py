"""What a score of reconstructions is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_ood.methods.forms import Form, Forms
from diffusion_ood.runtime.transfers import Arriving, rows_of

MAX_VALUES = 2**22  # of what is compared at a time, so that memory does not grow with volumes


class PairScore:
    """How far a reconstruction is from its image; higher means more out of distribution.

    A subclass has a `name`, which is its column's, `reference` and `__call__`. What it needs of the
    images themselves is computed once, whatever the number of their reconstructions. In another
    `form`, what is said of images here is true of them in that form.
    """

    name: str
    form: Form = "image"

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in the table; one where `finish` is not overridden."""
        return (self.name,)

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is needed of images `(B, C, *S)` in [0, 1]; batch first in each."""
        return (images,)

    def __call__(self, reference: tuple[Tensor, ...], reconstructions: Tensor) -> Tensor:
        """Scores (B,) of `(B, C, *S)` in [0, 1] against the same rows of a reference.

        Or a number of values of each, `(B, values)`, of which `finish` makes the scores.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores")

    def finish(self, reference: tuple[Tensor, ...], values: Tensor) -> Tensor:
        """Every column, `(B, draws, columns)`, of the values of all draws, `(B, draws, values)`."""
        return values


class Distance:
    """Several scores between one batch of images and others that are made of them.

    Args:
        scores: the scores, none of which has a `finish` of its own.
        images: the images.
    """

    def __init__(self, scores: Sequence[PairScore], images: Forms) -> None:
        self._parts = [(score, score.reference(images.take(score.form))) for score in scores]

    def __call__(self, found: Forms) -> Tensor:
        """Every column, `(B, columns)`, of one image for each."""
        return self.of_each([found])[:, 0]

    def of_each(self, found: Sequence[Forms]) -> Tensor:
        """Every column, `(B, draws, columns)`, of several images for each."""
        values = [
            _in_slabs(score, reference, torch.stack([one.take(score.form) for one in found], 1))
            for score, reference in self._parts
        ]
        return torch.cat([value.reshape(len(value), -1) for value in values], 1).unflatten(
            0, (-1, len(found))
        )


def _in_slabs(score: PairScore, reference: tuple[Tensor, ...], found: Tensor) -> Tensor:
    """Scores of `(B, draws, C, *S)`, rows in turn, of few volumes at a time."""
    rows, draws = found.flatten(0, 1), found.shape[1]
    size = max(1, MAX_VALUES // max(1, rows[:1].numel()))
    values = [
        score(tuple(one[part // draws] for one in reference), rows[part])
        for part in torch.arange(len(rows), device=rows.device).split(size)
    ]
    return torch.cat(values)


class Scorer:
    """A score at work on one batch of images.

    Args:
        score: the score.
        images: shape `(B, C, *S)` in [0, 1].
        draws: the number of reconstructions of each image that will come.
    """

    def __init__(self, score: PairScore, images: Tensor, draws: int) -> None:
        self.score = score
        self.reference = score.reference(images)
        self._values = torch.empty(len(images), draws, 0)
        self._coming: list[tuple[Tensor, Tensor, Arriving]] = []

    def update(self, image: Tensor, draw: Tensor, reconstructions: Tensor) -> None:
        """Take in reconstructions `(n, C, *S)` in [0, 1] of these images (n,) and draws (n,).

        What was taken in before is waited for, while the device works on these.
        """
        values = self.score(self._rows(image), reconstructions).float()
        self._coming.append((image, draw, Arriving(values)))
        self._settle(self._coming[:-1])

    def compute(self, images: Tensor) -> Tensor:
        """Every column of these images (n,), whose draws were all taken in: `(n, draws, columns)`.

        float32, on the CPU.
        """
        if any(torch.isin(image, images).any() for image, _, _ in self._coming):
            self._settle(self._coming)
        if type(self.score).finish is PairScore.finish:  # which needs no rows of the reference
            return self._values[images]
        return self.score.finish(self._rows(images), self._values[images])

    def _settle(self, coming: list[tuple[Tensor, Tensor, Arriving]]) -> None:
        """Put values in their places as soon as they are there."""
        self._coming = self._coming[len(coming) :]
        for image, draw, values in coming:
            found = values.get()[:, None].flatten(1)  # also of one value each
            if self._values.shape[2] != found.shape[1]:
                self._values = found.new_full((*self._values.shape[:2], found.shape[1]), torch.nan)
            self._values[image, draw] = found

    def _rows(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows_of(part, images) for part in self.reference)
