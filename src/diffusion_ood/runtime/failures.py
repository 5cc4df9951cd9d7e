"""How a process ends that cannot go on: said once among all of torchrun's, and without waiting."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import FrameType
from typing import NoReturn

PATIENCE = timedelta(seconds=5)

start = ""
"""The name of this start of a group's processes, once they have found each other."""

# What torch says in a process that waited for one that has ended.
_LOST = re.compile(r"[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|[Ss]ocket closed")


class Terminated(BaseException):
    """SIGTERM has come, as KeyboardInterrupt says that SIGINT has."""


def in_a_group() -> bool:
    """Whether torchrun, or something like it, has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def raised_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that what is open is closed.

    In a group it ends the process at once: one that waits for another would not hear of it.
    """
    before = signal.getsignal(signal.SIGTERM)
    alone = not in_a_group() and threading.current_thread() is threading.main_thread()
    if alone and before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before)


def leave(sentences: Sequence[str], code: int) -> NoReturn:
    """End this process with sentences on stderr, in a group those of its first failure alone.

    In a group nothing is tidied up: whoever waited for another process there could wait for ever.
    """
    if not in_a_group():
        print(*(f"error: {sentence}" for sentence in sentences), sep="\n", file=sys.stderr)
        sys.exit(code)
    if _first_to_fail():
        name = f"error (rank {os.environ['RANK']})"
        print(*(f"{name}: {sentence}" for sentence in sentences), sep="\n", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def leave_by_error(error: Exception, code: int = 1) -> NoReturn:
    """End this process of a group with an error's traceback, or a sentence when others are gone."""
    if isinstance(error, RuntimeError) and _LOST.search(str(error)):
        reason = str(error).split("\n")[0]
        leave([f"another process ended while this one waited for it ({reason})"], code)
    leave(["".join(traceback.format_exception(error)).rstrip()], code)


def leave_by_signal(number: int) -> NoReturn:
    """End this process as a signal does that nothing has caught; a shell shows 128 + its number."""
    sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    raise AssertionError(f"signal {number} ends a process")


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _first_to_fail() -> bool:
    """Whether no other process has asked this since the group's start."""
    # Here, since detection has no torch.
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # public by its docs

    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        name = start or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = TCPStore(host, port, is_master=False, timeout=PATIENCE)
        return bool(store.add(f"failures {name}", 1) == 1)
    except (KeyError, ValueError, RuntimeError):  # rather twice than never
        return True
