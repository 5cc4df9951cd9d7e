"""The noise schedule: t → ᾱ_t."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_ood.networks.backend import DDPMScheduler
from diffusion_ood.runtime.transfers import to_like

NUM_TRAIN_TIMESTEPS = 1000
CLEAN = -1  # the time of an image without noise


class NoiseSchedule:
    """ᾱ_t for the times t = 0 … T−1, with ᾱ = 1 at `CLEAN`.

    Args:
        alphas_cumprod: ᾱ, shape (T,), falling, within (0, 1).
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        one = torch.ones(1, dtype=torch.float64)
        # Index −1 is the last entry: the table answers for CLEAN without a special case.
        self._alphas_cumprod = torch.cat([alphas_cumprod.double().cpu(), one])
        self._on_cuda: dict[torch.device, Tensor] = {}

    @property
    def num_timesteps(self) -> int:
        """T, the number of noise levels."""
        return len(self._alphas_cumprod) - 1

    def alphas_cumprod(self, t: Tensor) -> Tensor:
        """ᾱ_t in float64, for times (B,) from −1 to T−1.

        It is on the CPU, or on the CUDA device of the times, where the first call alone waits.
        """
        if not t.is_cuda:
            return self._alphas_cumprod[t.cpu()]
        if t.device not in self._on_cuda:
            self._on_cuda[t.device] = self._alphas_cumprod.to(t.device)
        return self._on_cuda[t.device][t]

    def alpha_sigma(self, t: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        """`(√ᾱ_t, √(1 − ᾱ_t))` as `(B, 1, …)` of `ndim` dimensions, as of `alphas_cumprod`."""
        alpha_bar = self.alphas_cumprod(t).reshape(-1, *[1] * (ndim - 1))
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def half_log_snr(self, t: Tensor) -> Tensor:
        """λ_t = log(√ᾱ_t / √(1 − ᾱ_t)) in float64, for times (B,); infinite at `CLEAN`."""
        alpha_bar = self.alphas_cumprod(t)
        return (alpha_bar / (1 - alpha_bar)).log() / 2

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """`x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε` (Ho et al. 2020, equation 4).

        Args:
            x_0, eps: shape `(B, C, *S)`.
            t: times, shape (B,), on the CPU.
        """
        signal, noise = self.alpha_sigma(t, x_0.ndim)
        return to_like(signal, x_0) * x_0 + to_like(noise, x_0) * eps


def build_schedule(
    beta_schedule: str, beta_start: float, beta_end: float, snr_shift: float = 1.0
) -> NoiseSchedule:
    """A schedule by name, its β from MONAI's `DDPMScheduler`.

    ᾱ_t is the product of 1 − β up to t in float64, for the cosine schedule too, where MONAI's own ᾱ
    is shifted by one step and has no noise at t = 0.

    Args:
        beta_schedule: `linear_beta`, `scaled_linear_beta`, `sigmoid_beta` or `cosine`.
        beta_start, beta_end: first and last β; the cosine schedule takes none.
        snr_shift: factor on ᾱ / (1 − ᾱ), the signal-to-noise ratio (Hoogeboom et al. 2023, 3.1).
    """
    limits = {} if beta_schedule == "cosine" else {"beta_start": beta_start, "beta_end": beta_end}
    scheduler = DDPMScheduler(NUM_TRAIN_TIMESTEPS, schedule=beta_schedule, **limits)
    alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), dim=0)
    snr = snr_shift * alphas_cumprod / (1 - alphas_cumprod)
    return NoiseSchedule(snr / (1 + snr))
