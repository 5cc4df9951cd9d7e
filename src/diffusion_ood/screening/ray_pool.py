"""The pool of workers on a Ray cluster, whose driver is a process of its own.

Ray ends a driver without a word where a cluster is gone, prints to its stdout, and takes its
signals. Here it may: decisions are kept by this process, which hears of each through a pipe.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from diffusion_ood.data.inputs import Reader
from diffusion_ood.runtime.imports import set_up_ray
from diffusion_ood.screening.pool import Answer, Pool, Task, Worker

PATIENCE_S = 30  # with the driver's end
SHORT, SAID = "/tmp", "said.txt"


@contextlib.contextmanager
def ray_pool(
    address: str,
    workers: int | None,
    device: str,
    detector: Path,
    compile: str,
    reader: Reader,
    worker: type[Worker] = Worker,
) -> Iterator[Pool]:
    """Workers on a cluster, until the end of the block.

    Args:
        address: of the cluster; `auto` is one that `ray start` began on this machine, else one that
            is started here.
        workers: how many; None is one a GPU of the cluster, or where it has none one a core.
        device: auto, cpu or cuda.
        detector: its file, which the workers have from here.
        compile: off or on, of each worker's network.
        reader: of the same detector.
        worker: what the workers are.

    Raises:
        UserError: no cluster answers, or it has no GPU and was asked for one.
        OSError: the cluster fails, also in the block.
    """
    context = multiprocessing.get_context("spawn")  # a fork would have this process's threads
    # A folder of its own, so that nothing is left, and no other job joins what ends with this one;
    # of a short name, since those of Ray's sockets have 107 bytes at most.
    place = SHORT if os.path.isdir(SHORT) else None
    with tempfile.TemporaryDirectory("", "ray-", place, ignore_cleanup_errors=True) as folder:
        Path(folder, SAID).touch()
        pipe, theirs = context.Pipe()
        own = (detector.absolute(), compile, os.getcwd(), worker)
        args = (theirs, folder, address, workers, device, *own)
        process = context.Process(target=_drive, args=args, daemon=True)
        process.start()
        theirs.close()
        try:
            found = _received(pipe, folder)
            if isinstance(found, Exception):
                raise found
            yield Pool(partial(_answers, pipe, folder), found, reader)
        finally:
            pipe.close()
            process.terminate()
            process.join(PATIENCE_S)
            process.kill()


def _drive(pipe: Connection, folder: str, *args: Any) -> None:  # noqa: ANN401 - of `drive`
    """`drive`, once Ray is imported as it should be, and speaks into a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, which is for the one that asks
    with open(Path(folder, SAID), "wb") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    set_up_ray()
    from diffusion_ood.screening.ray_driver import drive

    drive(pipe, folder, *args)


def _answers(pipe: Connection, folder: str, tasks: Sequence[Task]) -> Generator[Answer, None, None]:
    """`Pool.run`, by the driver."""
    pipe.send(tasks)
    while (answer := _received(pipe, folder)) is not None:
        yield answer


def _received(pipe: Connection, folder: str) -> Any:  # noqa: ANN401 - whatever was sent
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        said = Path(folder, SAID).read_text(encoding="utf-8", errors="replace").strip()
        reason = said.split("\n")[-1] or "without a word"
        raise OSError(errno.EIO, f"Ray ended: {reason}") from None
