"""The denoiser: a network and a schedule, joined to ε̂(x_t, t)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from diffusion_ood.diffusion.schedule import NoiseSchedule

Network = Callable[[Tensor, Tensor], Tensor]


class Denoiser(Protocol):
    """What a sampler needs: the noise that a noisy image is believed to hold."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """ε̂ of shape `(B, C, *S)` from `x_t` of that shape and times `t` (B,) on the CPU."""


class NetworkDenoiser:
    """ε̂ by a network that predicts ε, x_0 or v = √ᾱ·ε − √(1−ᾱ)·x_0 (Salimans & Ho 2022, eq. 11).

    Args:
        network: maps `(B, C, *S)` and float times (B,) to a prediction of shape `(B, C, *S)`.
        schedule: the noise schedule that the network was trained with.
        prediction_type: `epsilon`, `sample` or `v_prediction`.
    """

    def __init__(self, network: Network, schedule: NoiseSchedule, prediction_type: str) -> None:
        self.network = network
        self.schedule = schedule
        self.prediction_type = prediction_type

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """ε̂ of shape `(B, C, *S)`, in the dtype of `x_t`."""
        output = self.network(x_t, t.to(x_t.device)).to(x_t.dtype)
        if self.prediction_type == "epsilon":
            return output
        signal, noise = (rate.to(x_t) for rate in self.schedule.rates(t, x_t.ndim))
        if self.prediction_type == "sample":
            return (x_t - signal * output) / noise
        return noise * x_t + signal * output

    def loss(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Mean squared error of the network against its own target, per image: shape (B,).

        Args:
            x_0, eps: clean images and standard normal noise, shape `(B, C, *S)`.
            t: times, shape (B,), on the CPU.
        """
        signal, noise = (rate.to(x_0) for rate in self.schedule.rates(t, x_0.ndim))
        targets = {"epsilon": eps, "sample": x_0, "v_prediction": signal * eps - noise * x_0}
        output = self.network(signal * x_0 + noise * eps, t.to(x_0.device))
        return (output.float() - targets[self.prediction_type]).square().flatten(1).mean(1)
