"""Screening by a pool of workers elsewhere: tasks, what a worker does, and what it may lose.

Large tasks come first and small ones last, so that a slow worker holds little when the others are
done. A worker takes a task when it is free, and sends its decisions on as they are made. Those who
find no new task do once more what others, slow or dead, still hold.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.remote import Remote
from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.runtime import failures
from diffusion_ood.screening.decisions import Decision
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.run import BATCH, decide

MOST = 64 * BATCH
SHARES = 16
"""A task is this part of a worker's share of what is left; at least BATCH images, at most MOST."""
IN_FLIGHT = 2
"""Tasks of a worker, so that it need not wait for the next one."""

TRIES = 3
"""Of images at which workers die."""

Task: TypeAlias = tuple[Sequence[Item], Mapping[str, Decision], "Path | None"]
"""Items, what is known of them, and the folder of maps: the arguments of `decide`."""
Answer: TypeAlias = "list[Decision] | Exception"


def split(items: Sequence[Item], workers: int, most: int = MOST) -> Iterator[Sequence[Item]]:
    """Items in the tasks of so many workers, each smaller than the one before."""
    start, least = 0, min(BATCH, math.ceil(len(items) / (IN_FLIGHT * workers)))  # of few, each some
    while start < len(items):
        share = (len(items) - start) // (SHARES * workers)
        size = min(most, max(least, share))
        yield items[start : start + size]
        start += size


class Worker:
    """A process that holds the detector and decides on one task after the other.

    Args:
        content: returns the bytes of the detector's file.
        device: of this process.
        compile: off or on.
        threads: that it may use of its machine.
        folder: in which the command was started, of the paths that are not absolute.
        period: seconds between its answers.
    """

    def __init__(
        self,
        content: Callable[[], bytes],
        device: str,
        compile: str,
        threads: int,
        folder: str,
        period: float,
    ) -> None:
        self._content, self._device, self._compile = content, device, compile
        self._threads = threads
        self._folder, self._period = folder, period
        self._detector: Detector | None = None

    def answers(self, task: Task) -> Iterator[Answer]:
        """Decisions as they are made; at an error the error, which ends the whole screening."""
        held: list[Decision] = []
        try:
            sent = time.monotonic()
            for decisions in self.decisions(task):
                held += decisions
                if time.monotonic() - sent >= self._period:
                    yield held
                    held, sent = [], time.monotonic()
            yield held
        except Exception as error:
            yield held
            known = isinstance(error, UserError) or failures.of_machine(error)
            yield error if known else RuntimeError("".join(traceback.format_exception(error)))

    def decisions(self, task: Task) -> Iterator[list[Decision]]:
        """A batch at a time, as of `decide`."""
        return decide(self.detector(), *task)

    def detector(self) -> Detector:
        """The detector, which is loaded once."""
        if self._detector is None:
            torch.set_num_threads(self._threads)
            with contextlib.suppress(OSError):  # absolute paths may be all that is asked for
                os.chdir(self._folder)
            with tempfile.NamedTemporaryFile(suffix=".detector") as file:
                file.write(self._content())
                file.flush()
                self._detector = Detector.load(file.name, self._device, compile=self._compile)
        return self._detector


@dataclass(frozen=True)
class Pool:
    """Workers that decide together.

    Attributes:
        run: has workers answer tasks, each a part at a time; some twice, and some not at all if
            workers die.
        workers: how many there are.
        reader: of the detector, here.
    """

    run: Callable[[Sequence[Task]], Generator[Answer, None, None]]
    workers: int
    reader: Reader

    def decide(
        self, items: Sequence[Item], finished: Mapping[str, Decision], maps: Path | None
    ) -> Iterator[list[Decision]]:
        """As `screening.run.decide`, in the order of the answers; each image is answered once.

        Raises:
            UserError: an image that can be read here and not by a worker, or as a worker says.
            OSError: images at which workers die, again and again.
        """
        left = {item.name: item for item in items}
        if not left:
            return
        maps = None if maps is None else maps.absolute()
        # Tasks become smaller, until an image at which a worker dies takes no other with it.
        tries = 0
        for most in itertools.chain((MOST, BATCH), itertools.repeat(1)):
            before = len(left)
            parts = split(list(left.values()), self.workers, most)
            tasks = [
                (part, {i.name: finished[i.name] for i in part if i.name in finished}, maps)
                for part in parts
            ]
            # Closed, as no one waits for what is done twice once all is answered.
            with contextlib.closing(self.run(tasks)) as answers:
                for answer in answers:
                    if isinstance(answer, Exception):
                        raise answer
                    made = [(left.pop(d.file), d) for d in answer if d.file in left]
                    for item, decision in made:
                        if decision.reason:
                            self._refuse_unseen(item, decision.reason)
                    if made:
                        yield [decision for _, decision in made]
                    if not left:
                        return
            tries = tries + 1 if len(left) == before else 0
            if tries == TRIES:
                raise OSError(errno.EIO, f"{TRIES} workers died at {next(iter(left))}")

    def _refuse_unseen(self, item: Item, reason: str) -> None:
        """Raise an error of an image that another machine cannot read, and this one can.

        A store is the same for all of them, and may fail for a moment.
        """
        if isinstance(item.path, Remote):
            return
        with contextlib.suppress(UserError):
            item.read(self.reader)
            raise OSError(
                errno.EIO,
                f"{item.name}: found it here and not on a machine of the cluster ({reason}), "
                "expected it under the same path there",
            )
