"""Classifier-free guidance (Ho & Salimans 2022): a denoiser made of a denoiser."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser


class GuidedDenoiser:
    """`ε̂ = (1 + β)·ε̂(x_t, t, y) − β·ε̂(x_t, t, null)` (Ho & Salimans 2022, equation 6).

    Both terms come from one network call of twice the rows; with β = 0 there is the first alone.

    Args:
        denoiser: of a network with classes.
        beta: strength of the guidance, at least 0; the scale w = 1 + β of others.
        null_label: the label that means any class.
    """

    def __init__(self, denoiser: Denoiser, beta: float, null_label: int) -> None:
        self._denoiser = denoiser
        self._beta = beta
        self._null_label = null_label

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`; without labels there is nothing to guide towards."""
        if self._beta == 0 or labels is None:
            return self._denoiser(x_t, t, labels)
        null = torch.full_like(labels, self._null_label)
        both = self._denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([labels, null]))
        conditional, unconditional = both.chunk(2)
        return (1 + self._beta) * conditional - self._beta * unconditional
