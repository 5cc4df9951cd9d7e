"""Signals that take effect at a safe point."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)


class GracefulStop:
    """A block that notes SIGTERM and SIGINT, and raises them again at its end.

    A second SIGINT takes effect at once, since a user waits for it. Signals that are ignored, such
    as SIGINT in a shell's background jobs, stay ignored. Outside the main thread the block does
    nothing.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._restore = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Whether this process has received a signal to stop."""
        return self._signal is not None

    def reraise(self) -> None:
        """Raise the signal again; SIGTERM if another process received it."""
        self._restore.close()
        number, self._signal = self._signal, None
        signal.raise_signal(number or signal.SIGTERM)

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before = signal.signal(number, self._note)
                    self._restore.callback(signal.signal, number, before)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._restore.close()
        if self.requested and kind is None:
            self.reraise()

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = number == self._signal == signal.SIGINT
        self._signal = self._signal or number
        if again:
            self.reraise()
