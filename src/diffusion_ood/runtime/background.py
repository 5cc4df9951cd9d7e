"""Small tasks, such as writing what is finished, that are done while the next work goes on."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

AHEAD = 2
"""Tasks that wait at most: what a kill can cost."""


class Background:
    """A block whose tasks one thread does, in order.

    At its end all of them are done, also where it ends by an exception or a signal that raises one.
    What a task raises is raised by a later `do`, or else at the end; no task follows one that
    failed, since it could go on behind half a record.
    """

    def __init__(self) -> None:
        self._tasks: Queue[Callable[[], object] | None] = Queue(AHEAD)
        self._thread = Thread(target=self._work, daemon=True)
        self._failed: Exception | None = None

    def do(self, task: Callable[[], object]) -> None:
        """Let the thread do a task; wait where `AHEAD` of them do."""
        self._tasks.put(task)
        if self._failed is not None:
            raise self._failed

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if self._failed is None:
                    task()
            except Exception as error:
                self._failed = error
            finally:
                self._tasks.task_done()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._tasks.join()
        finally:
            self._tasks.join()  # also where a signal ended the waiting
            self._tasks.put(None)
        if kind is None and self._failed is not None:
            raise self._failed
