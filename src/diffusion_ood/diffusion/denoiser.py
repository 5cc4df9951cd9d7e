"""The denoiser: a network and a schedule, joined to ε̂(x_t, t); and denoisers made of a denoiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.runtime.transfers import to_device, to_like

Network = Callable[..., Tensor]
"""Maps `(B, C, *S)` and times (B,), and `class_labels` (B,) where it has classes."""


class Denoiser(Protocol):
    """The noise that a noisy image is believed to hold."""

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`.

        Args:
            x_t: shape `(B, C, *S)`.
            t: times, shape (B,), on the CPU.
            labels: classes, shape (B,), on the CPU; without, the image may be of any class.
        """


@dataclass(frozen=True)
class NetworkDenoiser:
    """ε̂ by a network that predicts ε, x_0 or v = √ᾱ·ε − √(1−ᾱ)·x_0 (Salimans & Ho 2022, eq. 11).

    Args:
        network: maps `(B, C, *S)` and float times (B,) to a prediction of shape `(B, C, *S)`.
        schedule: the noise schedule that the network was trained with.
        prediction_type: `epsilon`, `sample` or `v_prediction`.
        null_label: the label that a network with classes takes for "any"; None where it has none.
    """

    network: Network
    schedule: NoiseSchedule
    prediction_type: str
    null_label: int | None = None

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`, in the dtype of `x_t`."""
        output = self._predict(x_t, t, labels).to(x_t.dtype)
        if self.prediction_type == "epsilon":
            return output
        signal, noise = (to_like(rate, x_t) for rate in self.schedule.alpha_sigma(t, x_t.ndim))
        if self.prediction_type == "sample":
            return (x_t - signal * output) / noise
        return noise * x_t + signal * output

    def loss(self, x_0: Tensor, eps: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean squared error of the network against its own target, per image: shape (B,).

        Args:
            x_0, eps: clean images and standard normal noise, shape `(B, C, *S)`.
            t: times, shape (B,), on the CPU or where the images are.
            labels: classes, shape (B,), likewise; None is any class.
        """
        signal, noise = (rate.to(x_0) for rate in self.schedule.alpha_sigma(t, x_0.ndim))
        targets = {"epsilon": eps, "sample": x_0, "v_prediction": signal * eps - noise * x_0}
        output = self._predict(signal * x_0 + noise * eps, t, labels).to(x_0.dtype)
        return (output - targets[self.prediction_type]).square().flatten(1).mean(1)

    def _predict(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """The network's own output."""
        if self.null_label is None:
            assert labels is None, "a network without classes takes no labels"
            return self.network(x_t, to_device(t, x_t.device))
        if labels is None:
            labels = torch.full((len(x_t),), self.null_label, device=x_t.device)
        t, labels = (to_device(part, x_t.device) for part in (t, labels))
        return self.network(x_t, t, class_labels=labels)


@dataclass(frozen=True)
class GuidedDenoiser:
    """`ε̂ = (1 + β)·ε̂(x_t, t, y) − β·ε̂(x_t, t, null)` (Ho & Salimans 2022, equation 6).

    Classifier-free guidance. Both terms come from one network call of twice the rows; with β = 0
    there is the first alone.

    Args:
        denoiser: of a network with classes.
        beta: strength of the guidance, at least 0; the scale w = 1 + β of others.
        null_label: the label that means any class.
    """

    denoiser: Denoiser
    beta: float
    null_label: int

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`; without labels there is nothing to guide towards."""
        if self.beta == 0 or labels is None:
            return self.denoiser(x_t, t, labels)
        null = torch.full_like(labels, self.null_label)
        both = self.denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([labels, null]))
        conditional, unconditional = both.chunk(2)
        return (1 + self.beta) * conditional - self.beta * unconditional


@dataclass(frozen=True)
class ClippedDenoiser:
    """The ε̂ of a prediction x̂_0 that is clipped to the range of the images.

    x̂_0 = (x_t − √(1−ᾱ_t)·ε̂) / √ᾱ_t (Ho et al. 2020, equation 15), which near the top of the grid
    divides by nearly nothing: a small error of ε̂ is a large one of x̂_0, and larger under guidance.
    What is clipped away is noise, so that ε̂ = (x_t − √ᾱ_t·clip(x̂_0)) / √(1−ᾱ_t).

    Args:
        denoiser: whose predictions are clipped, guided or not.
        schedule: the noise schedule of the denoiser.
        low, high: the images' range.
    """

    denoiser: Denoiser
    schedule: NoiseSchedule
    low: float
    high: float

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`."""
        signal, noise = (to_like(rate, x_t) for rate in self.schedule.alpha_sigma(t, x_t.ndim))
        x_0 = (x_t - noise * self.denoiser(x_t, t, labels)) / signal
        return (x_t - signal * x_0.clamp(self.low, self.high)) / noise
