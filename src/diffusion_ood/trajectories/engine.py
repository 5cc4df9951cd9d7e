"""Running many trajectories through one network, the batch always full."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.samplers import NEVER, BatchDenoiser, Sampler
from diffusion_ood.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Trajectory:
    """One row of work: start here, pass these times.

    Args:
        row: the caller's number for it.
        times: falling; the first is where `start` stands, the last is where the trajectory ends.
        start: makes the noisy image `(C, *S)` at the first time, when its turn comes, on the CPU.
        label: the class that the denoiser is told, if any.
    """

    row: int
    times: tuple[int, ...]
    start: Callable[[], Tensor]
    label: int | None = None


def run_trajectories(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    sampler: Sampler,
    trajectories: Iterable[Trajectory],
    device: torch.device,
    max_batch: int = 256,
) -> Iterator[tuple[list[int], Tensor]]:
    """Run trajectories to their ends, at most `max_batch` in one network call.

    Every row of the batch has a time of its own: as soon as one trajectory ends, the next takes its
    place, so that the batch is full until no work waits. Rows do not influence each other.

    Args:
        denoiser: gives ε̂.
        schedule: the noise schedule.
        sampler: makes the steps.
        trajectories: longest first keeps the batch full to the end; either all or none have labels.
            Each is asked for when its turn comes.
        device: where the denoiser computes.
        max_batch: rows in one network call.

    Yields:
        After each network call in which some ended: their row numbers, and their images
        `(len(rows), C, *S)`.
    """
    waiting = iter(trajectories)
    active: list[Trajectory] = []
    ages: list[int] = []
    x_t, past = torch.empty(0), torch.empty(0)
    while (joining := list(itertools.islice(waiting, max_batch - len(active)))) or active:
        if joining:
            fresh = torch.stack([trajectory.start() for trajectory in joining]).to(device)
            fresh_past = fresh.new_zeros(sampler.memory, *fresh.shape)
            x_t = torch.cat([x_t, fresh]) if active else fresh
            past = torch.cat([past, fresh_past], dim=1) if active else fresh_past
            ages += [0] * len(joining)
            active += joining
        t = _times(active, ages, 0)
        s = _times(active, ages, 1)
        past_t = t.new_empty(sampler.memory, len(t))
        for k in range(sampler.memory):
            past_t[k] = _times(active, ages, -1 - k)
        asked = _for_batch(denoiser, active)
        x_t, output = sampler.step(asked, schedule, x_t, t, s, past, past_t)
        if sampler.memory:
            past = torch.cat([output[None], past[:-1]])
        ages = [age + 1 for age in ages]
        ended = torch.tensor(
            [len(trajectory.times) == k + 1 for trajectory, k in zip(active, ages, strict=True)]
        )
        if ended.any():
            rows = [trajectory.row for trajectory in itertools.compress(active, ended)]
            yield rows, x_t[ended]
            stays = ~ended
            active = list(itertools.compress(active, stays))
            ages = list(itertools.compress(ages, stays))
            x_t, past = x_t[stays], past[:, stays]


def _times(active: list[Trajectory], ages: list[int], offset: int) -> Tensor:
    """The time so many steps ahead of each trajectory, `NEVER` before its first."""
    return torch.tensor(
        [
            trajectory.times[age + offset] if age + offset >= 0 else NEVER
            for trajectory, age in zip(active, ages, strict=True)
        ]
    )


def _for_batch(denoiser: Denoiser, active: list[Trajectory]) -> BatchDenoiser:
    """The denoiser as a sampler asks it, with the classes of the batch's rows filled in."""
    known = [trajectory.label for trajectory in active if trajectory.label is not None]
    if not known:
        return lambda x_t, t, rows=None: denoiser(x_t, t)
    assert len(known) == len(active), "either all trajectories have labels or none"
    labels = torch.tensor(known)
    return lambda x_t, t, rows=None: denoiser(x_t, t, labels if rows is None else labels[rows])
