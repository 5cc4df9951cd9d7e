"""Which steps of which trajectories do not bear the rounding of bf16.

Where hardly anything of the image is left at the start point, the end of the trajectory hangs on
small differences, and a multistep sampler's extrapolation magnifies those of its past outputs. The
last part of the way is where that shows. With it in fp32 the order of images by their scores is
that of fp32 (docs/performance.md).
"""

from __future__ import annotations

import torch

from diffusion_ood.diffusion.samplers.base import Sampler
from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.trajectories.grid import Grid

HARDLY_A_TRACE = 0.0015
"""ᾱ below which a start point leaves hardly anything of the image."""

ALMOST_CLEAN = 0.8
"""ᾱ above which a trajectory is on the last part of its way."""


def exact_below(schedule: NoiseSchedule, sampler: Sampler, start: int) -> int:
    """The time below which a trajectory from `start` needs more than bf16; 0 if it never does."""
    alphas_cumprod = schedule.alphas_cumprod(torch.arange(schedule.num_timesteps))
    if not sampler.memory or alphas_cumprod[start] >= HARDLY_A_TRACE:
        return 0
    return int((alphas_cumprod > ALMOST_CLEAN).sum())


def exact_calls(grid: Grid, schedule: NoiseSchedule, sampler: Sampler) -> int:
    """Steps of all trajectories of an image below those times; a network call each."""
    below = {start: exact_below(schedule, sampler, start) for start in grid.starts}
    return sum(t < below[start] for start in grid.starts for t in grid.times(start)[:-1])
