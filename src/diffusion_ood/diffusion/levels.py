"""Noise levels by how much of an image they leave: by the logarithm of signal over noise.

Published levels are for images in [−1, 1]. In a range of another width w the same t leaves less or
more of them: log SNR = log(ᾱ / (1 − ᾱ)) + 2 log(w / 2) compares, and t alone does not.
"""

from __future__ import annotations

import math

import torch

from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.errors import UserError

HIGHEST, LOWEST = 7.0, -3.0
"""Log-SNRs of images in [−1, 1] between which detectors of the literature ask: at the one noise is
hardly to be seen, at the other next to nothing of the image is."""


def log_snr(schedule: NoiseSchedule, limits: tuple[float, float]) -> torch.Tensor:
    """The log-SNR of every t, float64 (T,), falling, as that of images in [−1, 1].

    Args:
        schedule: of the model.
        limits: the range of what the model sees.
    """
    times = torch.arange(schedule.num_timesteps)
    return 2 * schedule.half_log_snr(times) + 2 * math.log((limits[1] - limits[0]) / 2)


def nearest_level(schedule: NoiseSchedule, limits: tuple[float, float], wanted: float) -> int:
    """The t whose log-SNR is nearest to one that is given for images in [−1, 1]."""
    return int((log_snr(schedule, limits) - wanted).abs().argmin())


def even_levels(
    schedule: NoiseSchedule,
    limits: tuple[float, float],
    number: int,
    ends: tuple[float, float] = (HIGHEST, LOWEST),
) -> tuple[int, ...]:
    """So many t, rising, evenly in log-SNR between two, as far as the model has them.

    A single one is in the middle.

    Raises:
        UserError: more levels than the schedule has times for.
    """
    known = log_snr(schedule, limits)
    high, low = min(ends[0], float(known[0])), max(ends[1], float(known[-1]))
    even = torch.linspace(high, low, number, dtype=torch.float64)
    wanted = even if number > 1 else [(high + low) / 2]
    found = tuple(dict.fromkeys(int((known - value).abs().argmin()) for value in wanted))
    if len(found) < number:
        raise UserError(
            f"`num_levels`: found {number}, expected at most as many as the model's schedule has "
            f"different times for between log-SNR {high:.3g} and {low:.3g}"
        )
    return found
