"""Running many trajectories through one network, the batch always full."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.samplers.base import NO_STEP, BatchDenoiser, Sampler, State
from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.runtime.ahead import made_ahead, threads_for
from diffusion_ood.runtime.transfers import rows_of, to_device


@dataclass(frozen=True)
class Trajectory:
    """One row of work: start here, pass these times.

    Args:
        row: the caller's number for it.
        times: the first is where `start` stands, the last is where the trajectory ends; they fall,
            or rise where an image is encoded.
        start: makes x `(C, *S)` at the first time, when its turn comes; for a GPU some time before,
            in a thread beside others.
        label: the class that the denoiser is told, if any.
    """

    row: int
    times: tuple[int, ...]
    start: Callable[[], Tensor]
    label: int | None = None


@dataclass(frozen=True)
class Step:
    """One step of n trajectories.

    Attributes:
        rows: their numbers.
        t, s: the times before and after it, (n,), on the CPU.
        x_t, x_s: where it begins and ends, `(n, C, *S)`.
        eps: ε̂(x_t, t), `(n, C, *S)`, as the sampler's first evaluation gave it.
        ended: which of the trajectories end with it, a boolean (n,) on the CPU.
    """

    rows: list[int]
    t: Tensor
    s: Tensor
    x_t: Tensor
    x_s: Tensor
    eps: Tensor
    ended: Tensor

    def ends(self) -> tuple[list[int], Tensor]:
        """The numbers of the trajectories that end here, and their ends `(m, C, *S)`."""
        return list(itertools.compress(self.rows, self.ended)), rows_of(self.x_s, self.ended)


def run_trajectories(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    sampler: Sampler,
    trajectories: Iterable[Trajectory],
    device: torch.device,
    max_batch: int = 256,
) -> Iterator[Step]:
    """Run trajectories to their ends, at most `max_batch` in one network call.

    Every row of the batch has a time of its own: as soon as one trajectory ends, the next takes its
    place, so that the batch is full until no work waits. Rows do not influence each other.

    Args:
        denoiser: gives ε̂.
        schedule: the noise schedule.
        sampler: makes the steps.
        trajectories: longest first keeps the batch full to the end; either all or none have labels.
            Each is asked for when its turn comes, for a GPU up to `max_batch` ahead.
        device: where the denoiser computes.
        max_batch: rows in one network call.

    Yields:
        Every step of the batch; each trajectory is in as many as it has steps.
    """
    threads = threads_for(device)
    waiting = made_ahead(trajectories, lambda one: one.start(), max_batch, threads, chunk=16)
    active = _Rows(sampler.memory, device)
    while True:
        active.join(list(itertools.islice(waiting, max_batch - len(active))))
        if not len(active):
            return
        yield active.step(denoiser, schedule, sampler)


class _Rows:
    """Trajectories under way: each is a row of a batch and keeps what its sampler remembers."""

    def __init__(self, memory: int, device: torch.device) -> None:
        self._trajectories: list[Trajectory] = []
        self._ages: list[int] = []  # steps made
        self._x = torch.empty(0, device=device)
        self._past = torch.empty(memory, 0, device=device)

    def __len__(self) -> int:
        return len(self._trajectories)

    def join(self, started: list[tuple[Trajectory, Tensor]]) -> None:
        """Put trajectories that have made no step, where they start, behind the others."""
        if not started:
            return
        trajectories, starts = zip(*started, strict=True)
        x = to_device(torch.stack(starts), self._x.device)
        past = x.new_zeros(len(self._past), *x.shape)
        self._x = torch.cat([self._x, x]) if len(self) else x
        self._past = torch.cat([self._past, past], dim=1) if len(self) else past
        self._trajectories = [*self._trajectories, *trajectories]
        self._ages = self._ages + [0] * len(trajectories)

    def step(self, denoiser: Denoiser, schedule: NoiseSchedule, sampler: Sampler) -> Step:
        """Go on by a step; the rows that end leave."""
        t, s = self._times(0, 1)
        past_t = self._times(*range(-1, -1 - sampler.memory, -1))
        known = [row.label for row in self._trajectories if row.label is not None]
        assert len(known) in (0, len(self)), "either all trajectories have labels or none"
        asked = BatchDenoiser(denoiser, torch.tensor(known) if known else None)
        x_s, output = sampler.step(asked, State(schedule, self._x, t, s, self._past, past_t))
        assert asked.first is not None, "a sampler asks for ε̂ of the whole batch first"
        if sampler.memory:
            self._past = torch.cat([output[None], self._past[:-1]])
        self._ages = [age + 1 for age in self._ages]
        steps = [len(row.times) - 1 for row in self._trajectories]
        ended = torch.tensor(steps) == torch.tensor(self._ages)
        rows = [row.row for row in self._trajectories]
        made = Step(rows, t, s, self._x, x_s, asked.first, ended)
        self._x = x_s
        if ended.any():
            self._trajectories = list(itertools.compress(self._trajectories, ~ended))
            self._ages = list(itertools.compress(self._ages, ~ended))
            kept = to_device((~ended).nonzero()[:, 0], self._x.device)
            self._x, self._past = self._x[kept], self._past[:, kept]
        return made

    def _times(self, *ahead: int) -> Tensor:
        """The times so many steps ahead of each row, `(len(ahead), n)`; `NO_STEP` before any."""
        passing = list(zip(self._trajectories, self._ages, strict=True))
        times = [
            [row.times[age + k] if age + k >= 0 else NO_STEP for row, age in passing] for k in ahead
        ]
        return torch.tensor(times, dtype=torch.long).reshape(len(ahead), len(self))
