"""The denoiser: a network and a schedule, joined to ε̂(x_t, t)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from diffusion_ood.diffusion.schedule import NoiseSchedule

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


class NetworkDenoiser:
    """ε̂ by a network that predicts ε, x_0 or v = √ᾱ·ε − √(1−ᾱ)·x_0 (Salimans & Ho 2022, eq. 11).

    Args:
        network: maps `(B, C, *S)` and float times (B,) to a prediction of shape `(B, C, *S)`.
        schedule: the noise schedule that the network was trained with.
        prediction_type: `epsilon`, `sample` or `v_prediction`.
        null_label: the label that a network with classes takes for "any"; None where it has none.
    """

    def __init__(
        self,
        network: Network,
        schedule: NoiseSchedule,
        prediction_type: str,
        null_label: int | None = None,
    ) -> None:
        self.network = network
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.null_label = null_label

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`, in the dtype of `x_t`."""
        output = self._predict(x_t, t, labels).to(x_t.dtype)
        if self.prediction_type == "epsilon":
            return output
        signal, noise = (rate.to(x_t) for rate in self.schedule.alpha_sigma(t, x_t.ndim))
        if self.prediction_type == "sample":
            return (x_t - signal * output) / noise
        return noise * x_t + signal * output

    def loss(self, x_0: Tensor, eps: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean squared error of the network against its own target, per image: shape (B,).

        Args:
            x_0, eps: clean images and standard normal noise, shape `(B, C, *S)`.
            t: times, shape (B,), on the CPU.
            labels: classes, shape (B,), on the CPU; None is any class.
        """
        signal, noise = (rate.to(x_0) for rate in self.schedule.alpha_sigma(t, x_0.ndim))
        targets = {"epsilon": eps, "sample": x_0, "v_prediction": signal * eps - noise * x_0}
        output = self._predict(signal * x_0 + noise * eps, t, labels).to(x_0.dtype)
        return (output - targets[self.prediction_type]).square().flatten(1).mean(1)

    def _predict(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """The network's own output."""
        if self.null_label is None:
            assert labels is None, "a network without classes takes no labels"
            return self.network(x_t, t.to(x_t.device))
        if labels is None:
            labels = torch.full((len(x_t),), self.null_label)
        return self.network(x_t, t.to(x_t.device), class_labels=labels.to(x_t.device))
