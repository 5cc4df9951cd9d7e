"""Running many trajectories through one network, the batch always full."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.samplers.base import NEVER, BatchDenoiser, Sampler
from diffusion_ood.diffusion.schedule import NoiseSchedule

EXACT_SHARE = 8
"""Trajectories go on by the exact denoiser as soon as they are this part of a full batch."""


@dataclass(frozen=True)
class Trajectory:
    """One row of work: start here, pass these times.

    Args:
        row: the caller's number for it.
        times: falling; the first is where `start` stands, the last is where the trajectory ends.
        start: makes the noisy image `(C, *S)` at the first time, when its turn comes, on the CPU.
        label: the class that the denoiser is told, if any.
        exact_below: at times below it the exact denoiser is asked, where there is one.
    """

    row: int
    times: tuple[int, ...]
    start: Callable[[], Tensor]
    label: int | None = None
    exact_below: int = 0


def run_trajectories(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    sampler: Sampler,
    trajectories: Iterable[Trajectory],
    device: torch.device,
    max_batch: int = 256,
    exact: Denoiser | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Run trajectories to their ends, at most `max_batch` in one network call.

    Every row of the batch has a time of its own: as soon as one trajectory ends, the next takes its
    place, so that the batch is full until no work waits. Rows do not influence each other. Those
    that have come to the exact denoiser wait until they are enough for a call of their own.

    Args:
        denoiser: gives ε̂.
        schedule: the noise schedule.
        sampler: makes the steps.
        trajectories: longest first keeps the batch full to the end; either all or none have labels.
            Each is asked for when its turn comes.
        device: where the denoiser computes.
        max_batch: rows in one network call.
        exact: gives the same ε̂ with less rounding, where a trajectory asks for it.

    Yields:
        After each network call in which some ended: their row numbers, and their images
        `(len(rows), C, *S)`.
    """
    waiting = iter(trajectories)
    active, held = _Rows([], sampler.memory), _Rows([], sampler.memory)
    while True:
        joining = list(itertools.islice(waiting, max_batch - len(active)))
        active.join(_Rows(joining, sampler.memory, device))
        if exact:
            held.join(active.pop(active.is_exact()))
        if not active and not held:
            return
        if active:
            yield from active.step(denoiser, schedule, sampler)
        while exact and held and (not active or EXACT_SHARE * len(held) >= max_batch):
            together = held.pop(torch.arange(len(held)) < max_batch)
            while together:
                yield from together.step(exact, schedule, sampler)


class _Rows:
    """Trajectories under way: each is a row of a batch and keeps what its sampler remembers.

    Args:
        trajectories: which have made no step.
        memory: how many past outputs the sampler wants.
        device: of their images.
    """

    def __init__(
        self, trajectories: list[Trajectory], memory: int, device: torch.device | None = None
    ) -> None:
        self._trajectories = trajectories
        self._ages = [0] * len(trajectories)
        self._x = torch.empty(0)
        if trajectories:
            self._x = torch.stack([trajectory.start() for trajectory in trajectories]).to(device)
        self._past = self._x.new_zeros(memory, *self._x.shape)

    def __len__(self) -> int:
        return len(self._trajectories)

    def join(self, others: _Rows) -> None:
        """Put these rows behind one's own."""
        if not others:
            return
        self._past = torch.cat([self._past, others._past], dim=1) if self else others._past
        self._x = torch.cat([self._x, others._x]) if self else others._x
        self._trajectories = self._trajectories + others._trajectories
        self._ages = self._ages + others._ages

    def pop(self, chosen: Tensor) -> _Rows:
        """Take these rows, a boolean (rows,) on the CPU, out of one's own."""
        taken = _Rows([], len(self._past))
        if chosen.any():
            taken._keep(self, chosen)
            self._keep(self, ~chosen)
        return taken

    def _keep(self, rows: _Rows, chosen: Tensor) -> None:
        self._trajectories = list(itertools.compress(rows._trajectories, chosen))
        self._ages = list(itertools.compress(rows._ages, chosen))
        self._x, self._past = rows._x[chosen], rows._past[:, chosen]

    def is_exact(self) -> Tensor:
        """Which rows have come to where they are to be computed exactly, (rows,)."""
        below = torch.tensor([trajectory.exact_below for trajectory in self._trajectories])
        return self._times(0) < below

    def step(
        self, denoiser: Denoiser, schedule: NoiseSchedule, sampler: Sampler
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Go on by a step; the numbers and images of the rows that have ended leave."""
        past_t = torch.empty(sampler.memory, len(self), dtype=torch.long)
        for k in range(sampler.memory):
            past_t[k] = self._times(-1 - k)
        t, s = self._times(0), self._times(1)
        self._x, output = sampler.step(
            self._asked(denoiser), schedule, self._x, t, s, self._past, past_t
        )
        if sampler.memory:
            self._past = torch.cat([output[None], self._past[:-1]])
        self._ages = [age + 1 for age in self._ages]
        ended = self.pop(torch.tensor([len(passed) == age + 1 for passed, age in self._passing()]))
        if ended:
            yield [trajectory.row for trajectory in ended._trajectories], ended._x

    def _passing(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """The times of each row's trajectory, and the steps it has made."""
        times = (trajectory.times for trajectory in self._trajectories)
        return zip(times, self._ages, strict=True)

    def _times(self, offset: int) -> Tensor:
        """The time so many steps ahead of each row, `NEVER` before its first."""
        times = [
            passed[age + offset] if age + offset >= 0 else NEVER for passed, age in self._passing()
        ]
        return torch.tensor(times, dtype=torch.long)

    def _asked(self, denoiser: Denoiser) -> BatchDenoiser:
        """The denoiser as a sampler asks it, with the classes of the rows filled in."""
        known = [row.label for row in self._trajectories if row.label is not None]
        if not known:
            return lambda x_t, t, rows=None: denoiser(x_t, t)
        assert len(known) == len(self), "either all trajectories have labels or none"
        labels = torch.tensor(known)
        return lambda x_t, t, rows=None: denoiser(x_t, t, labels if rows is None else labels[rows])
