"""Interleaved timing: on a noisy machine only ratios of neighbouring runs mean something."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Times:
    """Seconds of repeated runs of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return f"{self.median:.3g} s ({low:.3g} to {high:.3g}, {len(self.seconds)} runs)"


def interleaved(things: Mapping[Name, Callable[[], object]], runs: int) -> dict[Name, Times]:
    """Time every thing `runs` times in turn, A B A B …, each once unmeasured before."""
    for run in things.values():
        run()
    seconds: dict[Name, list[float]] = {name: [] for name in things}
    for _ in range(runs):
        for name, run in things.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def ratio(times: Mapping[str, Times], slow: str, fast: str) -> float:
    """Median over the runs of slow / fast, pair by pair."""
    pairs = zip(times[slow].seconds, times[fast].seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)
