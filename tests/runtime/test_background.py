"""Tasks in the background: in order, all done at the end, and their errors reach who asked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from diffusion_ood.runtime.background import AHEAD, Background


def do_all(*tasks: Callable[[], object]) -> None:
    with Background() as background:
        for task in tasks:
            background.do(task)


def test_tasks_are_done_in_order_by_the_end() -> None:
    done: list[int] = []
    with Background() as background:
        for number in range(20):
            background.do(partial(done.append, number))
    assert done == [*range(20)]


def test_the_caller_goes_on_while_few_tasks_wait() -> None:
    free, done = threading.Event(), []
    with Background() as background:
        for _ in range(AHEAD):
            background.do(free.wait)
        done.append("went on")
        threading.Timer(0.05, free.set).start()
        for _ in range(2):  # one is being done
            background.do(lambda: done.append("last"))
        assert free.is_set()
    assert done == ["went on", "last", "last"]


def test_an_error_is_raised_soon_and_nothing_follows_it() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError(28, "No space left on device", "x.csv")

    with pytest.raises(OSError, match="space") as error:
        do_all(fail, *(partial(done.append, number) for number in range(AHEAD + 2)))
    assert (error.value.errno, error.value.filename, done) == (28, "x.csv", [])


def test_the_error_of_the_last_task_is_raised_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError):
        do_all(lambda: 1 // 0)


def test_a_signal_ends_nothing_before_what_waits_is_done() -> None:
    done = []

    def write() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        done.append(1)

    with pytest.raises(KeyboardInterrupt):
        do_all(write)
    assert done == [1]
