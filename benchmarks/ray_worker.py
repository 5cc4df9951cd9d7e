"""The workers of `ray_cluster.py`, which import this file by its name."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusion_ood.screening.decisions import Decision
from diffusion_ood.screening.pool import Task, Worker

SLOWED = 4.0
STARTS, PACE = "RAY_DEMO_STARTS", "RAY_DEMO_PACE"
"""Variables of the environment: a folder of a file a start, and seconds an image."""


class PacedWorker(Worker):
    """A worker whose images take a fixed time; the first to start takes `SLOWED` as long."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - of `Worker`
        super().__init__(*args)
        self.detector()
        starts = (Path(os.environ[STARTS], f"{number}.json") for number in itertools.count())
        mine = next(path for path in starts if _made(path))  # each start has a number
        self._pace = float(os.environ[PACE]) * (SLOWED if mine.stem == "0" else 1)

    def decisions(self, task: Task) -> Iterator[list[Decision]]:
        """At the pace of this worker."""
        due = time.monotonic()
        for decisions in super().decisions(task):
            due += self._pace * len(decisions)
            time.sleep(max(0.0, due - time.monotonic()))
            yield decisions


def _made(path: Path) -> bool:
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "ready": time.time()}, file)
    except FileExistsError:
        return False
    return True
