"""Images of requests that arrive together share network calls: one thread measures for all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diffusion_ood.detector import Scores


class Verdict(NamedTuple):
    """What a detector says of one image.

    Attributes:
        score: higher is more out of distribution.
        p_value: in (0, 1].
        is_ood: whether the p-value is small enough.
        loudest: the method that speaks loudest.
        map: where in the image, float32 `(*S)`, if that was asked for and is known.
    """

    score: float
    p_value: float
    is_ood: bool
    loudest: str
    map: NDArray[np.float32] | None


class _Job(NamedTuple):
    pixels: torch.Tensor
    maps: bool
    future: Future[Verdict]


class Batches:
    """Gathers images that come within a few milliseconds, and answers each by its own future.

    An image's answer does not depend on which others it is measured with.

    Args:
        measure: (N, C, *S) in [0, 1] and whether maps are asked for → the scores of N images.
        most: images that are measured together.
        wait_s: how long the first of them waits for others; while the network works more gather
            by themselves.
        report: is told the images and seconds of each measurement, in the thread that measures.
    """

    def __init__(
        self,
        measure: Callable[[torch.Tensor, bool], Scores],
        most: int,
        wait_s: float,
        report: Callable[[int, float], None],
    ) -> None:
        self._measure, self._most, self._wait_s, self._report = measure, most, wait_s, report
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    def submit(self, pixels: torch.Tensor, maps: bool) -> Future[Verdict]:
        """Put an image (C, *S) in the queue; its future may be cancelled before its turn."""
        job = _Job(pixels, maps, Future())
        self._jobs.put(job)
        return job.future

    @property
    def waiting(self) -> int:
        """Images in the queue, about."""
        return self._jobs.qsize()

    @property
    def works(self) -> bool:
        """Whether images are still answered."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what is in the queue, and end."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = [job for job in self._gather(first) if job.future.set_running_or_notify_cancel()]
            for maps in (False, True):
                if alike := [job for job in jobs if job.maps is maps]:
                    self._answer(alike, maps)

    def _gather(self, first: _Job) -> list[_Job]:
        jobs, end = [first], time.monotonic() + self._wait_s
        while len(jobs) < self._most:
            try:
                job = self._jobs.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _answer(self, jobs: Sequence[_Job], maps: bool) -> None:
        """Answer each; where measuring them together fails, alone: the fault may be of one."""
        begin = time.perf_counter()
        try:
            scores = self._measure(torch.stack([job.pixels for job in jobs]), maps)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._answer([job], maps)
            return
        self._report(len(jobs), time.perf_counter() - begin)
        for k, job in enumerate(jobs):
            where = None if scores.maps is None else scores.maps[k]
            job.future.set_result(
                Verdict(
                    float(scores.score[k]),
                    float(scores.p_value[k]),
                    bool(scores.is_ood[k]),
                    scores.loudest[k],
                    where,
                )
            )
