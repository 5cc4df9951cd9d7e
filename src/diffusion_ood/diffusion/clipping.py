"""x̂_0 kept in the images' range: a denoiser made of a denoiser."""

from __future__ import annotations

from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.schedule import NoiseSchedule


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

    def __init__(
        self, denoiser: Denoiser, schedule: NoiseSchedule, low: float, high: float
    ) -> None:
        self._denoiser = denoiser
        self._schedule = schedule
        self._low, self._high = low, high

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(B, C, *S)`."""
        signal, noise = (rate.to(x_t) for rate in self._schedule.alpha_sigma(t, x_t.ndim))
        x_0 = (x_t - noise * self._denoiser(x_t, t, labels)) / signal
        return (x_t - signal * x_0.clamp(self._low, self._high)) / noise
