"""Which noise levels an image starts from, and the times it passes on its way down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from diffusion_ood.diffusion.samplers.base import Sampler
from diffusion_ood.diffusion.schedule import CLEAN, NoiseSchedule
from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import refuse_outside
from diffusion_ood.runtime.words import counted

TRAINING_STEPS = "the model's training steps"


class Grid(Protocol):
    """A plan of trajectories, the same for every image."""

    @property
    def starts(self) -> tuple[int, ...]:
        """The start points, rising."""

    def times(self, start: int) -> tuple[int, ...]:
        """The times of the trajectory from `start`: falling, `start` first."""


def network_calls(grid: Grid, sampler: Sampler) -> int:
    """Network calls an image by this sampler."""
    return sum(sampler.calls(len(grid.times(start)) - 1) for start in grid.starts)


@dataclass(frozen=True)
class TimeGrid:
    """The grid of `num_inference_steps` on T training times, and every N-th start point of it.

    The start points are r, 2r, …, with the stride r = T // steps and the last one no later than
    T − 1. A trajectory goes down from its start point through the multiples of r and ends at t = 0,
    where the ancestor's last network call changes nothing and is left out here.
    """

    num_timesteps: int
    num_inference_steps: int
    skip: int = 1

    def __post_init__(self) -> None:
        steps = self.num_inference_steps
        refuse_outside("num_inference_steps", steps, TRAINING_STEPS, most=self.num_timesteps)

    @property
    def stride(self) -> int:
        """Training times a step."""
        return self.num_timesteps // self.num_inference_steps

    @property
    def starts(self) -> tuple[int, ...]:
        """The start points, rising."""
        last = self.num_timesteps - 1
        steps = range(1, self.num_inference_steps + 1)
        return tuple(min(k * self.stride, last) for k in steps)[:: self.skip]

    def times(self, start: int) -> tuple[int, ...]:
        """The times of the trajectory from `start`: falling, first `start`, last 0."""
        first_multiple = (start - 1) // self.stride * self.stride
        return (start, *range(first_multiple, -1, -self.stride))


# ᾱ_t of the highest level that few calls are spent on: above it little depends on the image.
LEAST_SIGNAL = 0.1


@dataclass(frozen=True)
class BudgetGrid:
    """Few network calls: so many noise levels, and so many steps from each to the clean image.

    The levels are the middles of equal parts of the training times with ᾱ_t of at least
    `LEAST_SIGNAL`. With one step x̂_0 is predicted straight from the level. More steps have equal
    lengths in log-SNR down to t = 0, in whose place the clean image is; so low levels that have too
    few times below them take fewer.
    """

    schedule: NoiseSchedule
    num_levels: int
    num_steps: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.num_levels <= self._num_times:
            raise UserError(
                f"`budget`: found calls for {counted(self.num_levels, 'noise level')}, expected "
                f"1 to {self._num_times}, the training steps that leave a tenth of the image"
            )
        most = self.schedule.num_timesteps
        refuse_outside("budget_steps", self.num_steps, TRAINING_STEPS, most=most)

    @property
    def starts(self) -> tuple[int, ...]:
        """The start points, rising."""
        part = self._num_times / self.num_levels
        return tuple(int((k + 0.5) * part) for k in range(self.num_levels))

    def times(self, start: int) -> tuple[int, ...]:
        """From `start` to the clean image, `num_steps` steps at most."""
        log_snr = self.schedule.half_log_snr(torch.arange(start + 1))  # falling
        wanted = torch.linspace(log_snr[-1], log_snr[0], self.num_steps + 1, dtype=torch.float64)
        nearest = (wanted[:-1, None] - log_snr).abs().argmin(1).tolist()
        return (*dict.fromkeys(nearest), CLEAN)

    @property
    def _num_times(self) -> int:
        """Training times that leave enough of the image."""
        times = torch.arange(self.schedule.num_timesteps)
        return int((self.schedule.alphas_cumprod(times) >= LEAST_SIGNAL).sum())


@dataclass(frozen=True)
class LevelGrid:
    """A few chosen noise levels, and steps of T // steps from each to the image without noise.

    From level L the times are L, L − δ, L − 2δ, … > 0 and then `CLEAN`: ⌈L / δ⌉ steps. DiffOOD
    tells its network a time one too low and stops at t = 0; here the times are those of training
    and nothing of the noise is left, at the same number of steps. Level 0 is the image itself:
    scores compare with it, and nothing starts there.
    """

    num_timesteps: int
    num_inference_steps: int
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        last = self.num_timesteps - 1
        if not self.starts or not all(0 <= level <= last for level in self.levels):
            raise UserError(
                f"`levels`: found {','.join(map(str, self.levels))}, expected times from 0 to "
                f"{last}, at least one of them above 0"
            )
        steps = self.num_inference_steps
        refuse_outside("num_inference_steps", steps, TRAINING_STEPS, most=self.num_timesteps)

    @property
    def starts(self) -> tuple[int, ...]:
        """The levels above 0, rising."""
        return tuple(sorted({level for level in self.levels if level != 0}))

    def times(self, start: int) -> tuple[int, ...]:
        """From `start` to the clean image."""
        return (*range(start, 0, -(self.num_timesteps // self.num_inference_steps)), CLEAN)


@dataclass(frozen=True)
class SparseGrid:
    """At most so many of another grid's start points, evenly from its first to its last."""

    grid: Grid
    number: int

    @property
    def starts(self) -> tuple[int, ...]:
        """The start points, rising."""
        starts = self.grid.starts
        number, last = min(self.number, len(starts)), len(starts) - 1
        return tuple(starts[round(k * last / max(1, number - 1))] for k in range(number))

    def times(self, start: int) -> tuple[int, ...]:
        """As in the other grid."""
        return self.grid.times(start)
