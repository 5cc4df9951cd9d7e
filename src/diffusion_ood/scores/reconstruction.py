"""Scoring reconstructions as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from diffusion_ood.scores.base import Score


@torch.inference_mode()
def score_each(
    scores: Sequence[Score],
    images: Tensor,
    reconstructions: Iterable[tuple[Tensor, Tensor, Tensor]],
    values: Tensor,
    show: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Iterator[Tensor]:
    """Every score of every image at every start point, as the reconstructions come.

    What a score needs of the images themselves is computed once, whatever the number of their
    reconstructions.

    Args:
        scores: how to measure.
        images: shape `(B, C, *S)` in [0, 1], on the device.
        reconstructions: what `trajectories.reconstruct` yields: numbers of images (n,) and of start
            points (n,), and reconstructions `(n, C, *S)` in [0, 1].
        values: takes the scores, float32 on the CPU, shape `(B, starts, len(scores))`; starts are
            start points times repeats.
        show: is handed everything that is reconstructed, too.

    Yields:
        The numbers of the images (n,) of the reconstructions that were just scored.
    """
    references = [score.reference(images) for score in scores]
    for image, start, reconstruction in reconstructions:
        if show:
            show(image, start, reconstruction)
        of_image = image.to(images.device)
        for k, (score, reference) in enumerate(zip(scores, references, strict=True)):
            rows = tuple(part[of_image] for part in reference)
            values[image, start, k] = score(rows, reconstruction).float().cpu()
        yield image
