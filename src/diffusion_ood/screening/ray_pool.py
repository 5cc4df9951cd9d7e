"""The pool of workers on a Ray cluster, by Ray Data."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.data
from ray._private.services import find_bootstrap_address
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from diffusion_ood.data.inputs import Reader
from diffusion_ood.errors import UserError
from diffusion_ood.runtime import failures
from diffusion_ood.runtime.imports import set_up_ray, without_deprecation_notices
from diffusion_ood.screening.feed import Feed
from diffusion_ood.screening.pool import IN_FLIGHT, Answer, Pool, Task, Worker

if TYPE_CHECKING:
    import pyarrow as pa

AUTO, SHORT = "auto", "/tmp"
PATIENCE_S = 30  # with an address, and with Ray Data's end
WATCH_S, MISSED = 5.0, 3  # a cluster that did not answer so often has ended
TURNS = 2  # a task, as each may be done twice
ANSWERS_A_SECOND = 50
"""Of all workers together, as a driver takes a few hundred; each sends one a second at most."""


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
        OSError: in the block, if the cluster fails.
    """
    with _cluster(address):
        share = Share.of(ray.cluster_resources(), workers, device)
        content = ray.put(detector.read_bytes())
        period = max(1.0, share.workers / ANSWERS_A_SECOND)
        args = (worker, [content], share.device, compile, share.threads, os.getcwd(), period)
        yield Pool(partial(_answers, share, args), share.workers, reader)


def _answers(
    share: Share, args: tuple[Any, ...], tasks: Sequence[Task]
) -> Generator[Answer, None, None]:
    """`Pool.run`, by workers of these arguments."""
    # Beside the driver, without which there is nothing to do: no other machine takes it along.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    feeds = ray.remote(Feed).options(num_cpus=0, scheduling_strategy=here)
    feed = feeds.remote([pickle.dumps(task) for task in tasks])
    rows = [{"turn": turn} for turn in range(TURNS * len(tasks) + share.workers)]
    with without_deprecation_notices():  # of `max_restarts`, which Ray 2.64 will name otherwise
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            RayWorker,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=min(share.workers, len(tasks)), max_tasks_in_flight_per_actor=IN_FLIGHT
            ),
            fn_constructor_args=(feed, *args),
            num_cpus=share.num_cpus,
            num_gpus=share.num_gpus,
            # A worker that died starts again, elsewhere if need be. Its turns do not wait for that,
            # which could be for ever: others take its tasks.
            max_restarts=-1,
            max_task_retries=0,
        )
    try:
        # Not `iter_batches`, whose threads may outlive it and ask for what has been shut down.
        for bundle in answers.iter_internal_ref_bundles():
            for block in bundle.block_refs:
                with contextlib.suppress(ray.exceptions.ObjectLostError):  # with its machine
                    yield from map(pickle.loads, ray.get(block)["answer"].to_pylist())
    except ray.exceptions.RayError as error:
        reason = str(error).strip().split("\n")[-1]
        raise OSError(errno.EIO, f"the Ray cluster failed: {reason}") from error


class RayWorker:
    """A worker as Ray Data calls it; it takes tasks from a feed.

    Further arguments as of `Worker`, but for the content's reference.
    """

    def __init__(
        self,
        feed: ray.actor.ActorHandle[Feed],
        worker: type[Worker],
        content: Sequence[ray.ObjectRef[bytes]],
        *args: Any,  # noqa: ANN401 - of `Worker`
    ) -> None:
        self._feed, self._worker = feed, worker(lambda: ray.get(content[0]), *args)

    def __call__(self, turns: pa.Table) -> Iterator[dict[str, list[bytes]]]:
        """Answer a task in each turn; each answer goes to the driver at once."""
        for _ in range(len(turns)):
            number, task = ray.get(self._feed.take.remote()) or (None, b"")
            for answer in self._worker.answers(pickle.loads(task)) if task else [[]]:
                yield {"answer": [pickle.dumps(answer)]}
            ray.get(self._feed.done.remote(number))


@dataclass(frozen=True)
class Share:
    """What each of so many workers has of a cluster.

    Attributes:
        workers: how many.
        device: cuda or cpu.
        num_cpus: cores that Ray sets aside; less than one where there are more workers.
        num_gpus: GPUs that Ray sets aside.
        threads: that it may use.
    """

    workers: int
    device: str
    num_cpus: float
    num_gpus: float
    threads: int

    @classmethod
    def of(cls, resources: dict[str, float], workers: int | None, device: str) -> Share:
        """The share of these resources, `CPU` and `GPU`.

        Raises:
            UserError: a GPU is asked for, and there is none.
        """
        gpus = 0.0 if device == "cpu" else resources.get("GPU", 0.0)
        if device == "cuda" and not gpus:
            raise UserError("`device`: found a cluster without a GPU, expected one for cuda")
        cores = max(1, int(resources.get("CPU", 1)))
        number = workers or int(gpus) or cores
        return cls(
            workers=number,
            device="cuda" if gpus else "cpu",
            num_cpus=_part(cores, number),
            num_gpus=_part(gpus, number),
            threads=max(1, cores // number),
        )


def _part(whole: float, number: int) -> float:
    """One, or what each of so many has; Ray counts in ten-thousandths."""
    return min(1.0, int(whole / number * 10_000) / 10_000)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Join a cluster, or start one, and leave it; Ray's own words go to its log files."""
    set_up_ray()
    before = signal.getsignal(signal.SIGTERM)
    # A folder of its own, so that nothing is left, and no other job joins what ends with this one;
    # of a short name, since those of Ray's sockets have 107 bytes at most.
    place = SHORT if os.path.isdir(SHORT) else None
    with tempfile.TemporaryDirectory("", "ray-", place, ignore_cleanup_errors=True) as folder:
        try:
            with _without_stderr():
                try:
                    _join(address, folder)
                except SystemExit as error:  # Ray's answer to SIGTERM while it starts
                    raise failures.Terminated from error
            # Else Ray says of a worker that died on stdout; there is no public switch.
            ray._private.worker._worker_logs_enabled = False
            if signal.getsignal(signal.SIGTERM) is not before:  # Ray has one of its own
                signal.signal(signal.SIGTERM, before)
            log = logging.getLogger("ray.data")
            for handler in [h for h in log.handlers if isinstance(h, logging.StreamHandler)]:
                log.removeHandler(handler)
            context = DataContext.get_current()
            context.enable_progress_bars = False
            context.max_errored_blocks = -1  # of workers that died: `Pool` asks again
            context.target_max_block_size = 1  # each answer goes on at once
            with _watched(ray.get_runtime_context().gcs_address):
                yield
        finally:
            # Ray Data's own thread, if it went on, would end this process without a word.
            for thread in threading.enumerate():
                if thread.name.startswith("StreamingExecutor"):
                    thread.join(timeout=PATIENCE_S)
            ray.shutdown()


def _join(address: str, folder: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == AUTO:
        # Ray's own `auto` may find a cluster that another job has started and will end.
        found = find_bootstrap_address(None)
        address = os.environ.get("RAY_ADDRESS") or (found if found and answers(found) else "local")
    try:
        if address == "local":
            ray.init("local", include_dashboard=False, _temp_dir=folder, **quiet)
            return
        # Where nobody listens, Ray would end this process without a word.
        if not answers(address):
            raise ConnectionError("nobody listens there")
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"`ray`: found {address}, where no cluster answers ({reason}); expected host:port of "
            "one that runs the same Ray, with the same token in ~/.ray/auth_token if it has one"
        ) from None


def answers(address: str) -> bool:
    """Whether somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


@contextlib.contextmanager
def _watched(address: str) -> Iterator[None]:
    """End the process with a sentence if the cluster ends, since Ray ends it without a word."""
    over = threading.Event()

    def watch() -> None:
        missed = 0
        while missed < MISSED and not over.wait(WATCH_S):
            missed = 0 if answers(address) else missed + 1
        if missed == MISSED:
            lost = f"error: the Ray cluster at {address} ended; decisions are kept, the same "
            print(f"{lost}command goes on", file=sys.stderr, flush=True)
            os._exit(1)  # Ray would never let the other threads go

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Hide that Ray has read RAY_BACKEND_LOG_LEVEL, which its C++ says whatever the level is."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
