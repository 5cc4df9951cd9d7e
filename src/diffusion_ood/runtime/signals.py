"""Signals that wait until what is half done has been completed."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Deferred:
    """A block in which SIGTERM and SIGINT are noted, and at whose end they take effect.

    A second SIGINT does not wait, since then somebody sits there. Signals that are ignored, as
    SIGINT is in a shell's background jobs, stay ignored. Outside the main thread nothing happens.
    """

    def __init__(self) -> None:
        self._found: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        return self._found is not None

    def deliver(self) -> None:
        """Let what was noted take effect now; SIGTERM when another process was asked to stop."""
        self._restore()
        found, self._found = self._found, None
        signal.raise_signal(found or signal.SIGTERM)

    def __enter__(self) -> Deferred:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        if self.asked and error is None:
            self.deliver()

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = number == self._found == signal.SIGINT
        self._found = self._found or number
        if again:
            self.deliver()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
