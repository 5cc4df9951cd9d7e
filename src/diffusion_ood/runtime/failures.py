"""How a failed process ends: without waiting, and with one message from all of torchrun's."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import FrameType
from typing import NoReturn

PATIENCE = timedelta(seconds=5)

start = ""
"""The name of this start of a group's processes, which `distributed` sets once they are joined."""

# torch's error in a process that waited for another which has ended.
_LOST = re.compile(r"[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|[Ss]ocket closed")


class Terminated(BaseException):
    """SIGTERM was received, as KeyboardInterrupt stands for SIGINT."""


def in_a_group() -> bool:
    """Whether torchrun, or a similar launcher, has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def raised_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that open files are closed.

    In a group SIGTERM ends the process at once: one that waits for another would not notice it.
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


def of_machine(error: Exception) -> str | None:
    """What the machine refuses, a file or memory, in a sentence; None of a defect of the program.

    Python, NumPy and torch, which detection does not import, each say in their way that they found
    no memory.
    """
    if isinstance(error, OSError) and error.errno is not None:
        name = "" if error.filename is None else f"{error.filename}: "
        return (
            f"{name}{error.strerror}; what was finished is kept, and the same command goes on there"
        )
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and torchs):
        reason = str(error).split("\n")[0] or "no more to be had"
        return (
            f"out of memory: {reason}; a smaller `max_batch` or `batch_size`, smaller images, or "
            "fewer processes need less; what was finished is kept"
        )
    return None


def leave(sentences: Sequence[str], code: int) -> NoReturn:
    """End this process with sentences on stderr; in a group only the first failure prints them.

    In a group there is no cleanup, since it could wait for another process for ever.
    """
    group = in_a_group()
    name = f"error (rank {os.environ['RANK']})" if group else "error"
    if not group or _first_to_fail():
        lines = (f"{name}: {sentence}" for sentence in sentences)
        try:
            print(*lines, sep="\n", file=sys.stderr, flush=True)
        except OSError:  # a full disk, or a reader that has gone
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
    if not group:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def leave_by_error(error: Exception, code: int = 1) -> NoReturn:
    """End this process of a group with a traceback, or a sentence if another process has ended."""
    if isinstance(error, RuntimeError) and _LOST.search(str(error)):
        reason = str(error).split("\n")[0]
        leave([f"another process ended while this one waited for it ({reason})"], code)
    leave(["".join(traceback.format_exception(error)).rstrip()], code)


def leave_by_signal(number: int) -> NoReturn:
    """End this process by a signal, as if nothing had caught it; a shell shows 128 + its number."""
    sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    raise AssertionError(f"signal {number} ends a process")


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _first_to_fail() -> bool:
    """Whether this is the first process of the group, since its start, to ask.

    Without an answer within `PATIENCE` it is taken for the first: print twice rather than never.
    """
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        socket.create_connection((host, port), 1).close()  # torch says much where nobody listens
        # Imported here, since detection does without torch, and ahead of `PATIENCE`, which it may
        # exceed where many processes import it.
        import torch.distributed  # noqa: F401
    except (KeyError, ValueError, OSError, OverflowError, ImportError):
        return True
    found: list[bool] = []
    asking = threading.Thread(target=_ask_store, args=[host, port, found], daemon=True)
    asking.start()  # a store that takes a connection and says nothing is waited for without end
    asking.join(PATIENCE.total_seconds())
    return found != [False]


def _ask_store(host: str, port: int, found: list[bool]) -> None:
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # public by its docs

    name = start or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with contextlib.suppress(RuntimeError, OSError):
        store = TCPStore(host, port, is_master=False, timeout=PATIENCE)
        found.append(store.add(f"failures {name}", 1) == 1)
