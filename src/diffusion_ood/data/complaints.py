"""What decoders warn of and log, held back in the thread that decodes; Python has both by process.

`warnings.catch_warnings` would put another thread's filters back, or leave its own for good.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class _Ignored(threading.local):
    """Whose warnings this thread ignores; stands in a filter where it has a pattern of modules."""

    def __init__(self) -> None:
        self.modules: list[str] = []

    def match(self, module: str) -> bool:
        """What `warnings` asks of a pattern."""
        return any(re.match(pattern, module) for pattern in self.modules)


_IGNORED = _Ignored()
_FILTER = ("ignore", None, Warning, _IGNORED, 0)


@contextmanager
def ignoring(modules: str) -> Iterator[None]:
    """Ignore the warnings of modules whose names begin with this pattern, in this thread alone."""
    filters = cast("list[Any]", warnings.filters)
    if filters[:1] != [_FILTER]:  # others were added, or put back
        filters.insert(0, _FILTER)
    own = _IGNORED.modules  # as a generator may be closed by another thread
    own.append(modules)
    try:
        yield
    finally:
        own.remove(modules)


class Errors(threading.local):
    """A logger's filter that takes what is logged in a thread within `caught`."""

    def __init__(self) -> None:
        self.sentences: list[str] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged as usual."""
        if self.sentences is None:
            return True
        if record.levelno >= logging.ERROR:
            self.sentences.append(record.getMessage())
        return False

    @contextmanager
    def caught(self) -> Iterator[list[str]]:
        """Give what this thread logs as errors; nothing else of it gets out."""
        found: list[str] = []
        self.sentences = found
        try:
            yield found
        finally:
            self.sentences = None


class Aside:
    """Keeps what a logger and those below it log from the others while any thread is within."""

    def __init__(self, name: str) -> None:
        self._logger, self._lock = logging.getLogger(name), threading.Lock()
        self._within, self._before = 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._before, self._logger.propagate = self._logger.propagate, False
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._logger.propagate = self._before
