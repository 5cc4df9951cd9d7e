"""The process that drives workers on a Ray cluster, by Ray Data."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.data
from ray._private.services import find_bootstrap_address
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from diffusion_ood.errors import UserError
from diffusion_ood.screening.feed import Feed
from diffusion_ood.screening.pool import IN_FLIGHT, Task, Worker

if TYPE_CHECKING:
    import pyarrow as pa

AUTO = "auto"
WATCH_S, MISSED = 5.0, 3  # a cluster that did not answer so often has ended
PATIENCE_S = 10  # with an address
DEATHS = 3  # a worker, before any has started
TURNS = 2  # a task, as each may be done twice
ANSWERS_A_SECOND = 50
"""Of all workers together, as a driver takes a few hundred; each sends one a second at most."""


def drive(
    pipe: Connection,
    folder: str,
    address: str,
    workers: int | None,
    device: str,
    detector: Path,
    compile: str,
    place: str,
    worker: type[Worker],
) -> None:
    """Send the number of workers, and for each list of tasks that comes their answers, then None.

    Args:
        pipe: to the process that asks; an error is sent, too.
        folder: of a cluster that is started.
        address: as the following of `ray_pool`.
        workers: how many.
        device: of the workers.
        detector: its file.
        compile: off or on.
        place: folder of the paths that are not absolute.
        worker: what the workers are.
    """
    try:
        _join(address, folder)
        share = Share.of(ray.cluster_resources(), workers, device)
        content = ray.put(detector.read_bytes())
        period = max(1.0, share.workers / ANSWERS_A_SECOND)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # of workers that died: others take their tasks
        context.max_consecutive_actor_init_deaths = (
            DEATHS * share.workers
        )  # as machines come and go
        context.target_max_block_size = 1  # each answer goes on at once
        args = (worker, [content], share.device, compile, share.threads, place, period)
        cluster = ray.get_runtime_context().gcs_address
        threading.Thread(target=_watch, args=[cluster], daemon=True).start()
        pipe.send(share.workers)
        while tasks := pipe.recv():
            for answer in _answers(share, args, tasks):
                pipe.send_bytes(answer)
            pipe.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody asks any more
    except UserError as error:
        pipe.send(error)
    finally:
        ray.shutdown()


def _answers(share: Share, args: tuple[Any, ...], tasks: Sequence[Task]) -> Iterator[bytes]:
    """What workers of these arguments answer, pickled, as of `Pool.run`."""
    # Beside the driver, without which there is nothing to do: no other machine takes it along.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    feeds = ray.remote(Feed).options(num_cpus=0, scheduling_strategy=here)
    feed = feeds.remote([pickle.dumps(task) for task in tasks])
    rows = [{"turn": turn} for turn in range(TURNS * len(tasks) + share.workers)]
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
    for bundle in answers.iter_internal_ref_bundles():
        for block in bundle.block_refs:
            with contextlib.suppress(ray.exceptions.ObjectLostError):  # with its machine
                yield from ray.get(block)["answer"].to_pylist()


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


def _join(address: str, folder: str) -> None:
    if address == AUTO:
        # Ray's own `auto` may find a cluster that another job has started and will end.
        found = find_bootstrap_address(None)
        address = os.environ.get("RAY_ADDRESS") or (found if found and answers(found) else "local")
    try:
        if address == "local":
            ray.init("local", include_dashboard=False, _temp_dir=folder, log_to_driver=False)
            return
        # Where nobody listens, Ray would end this process after a minute.
        if not answers(address):
            raise ConnectionError("nobody listens there")
        ray.init(address, log_to_driver=False)
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


def _watch(address: str) -> None:
    """End this process if the cluster ends, as Ray does after a minute or more."""
    missed = 0
    while missed < MISSED:
        time.sleep(WATCH_S)
        missed = 0 if answers(address) else missed + 1
    print(f"the cluster at {address} has ended", file=sys.stderr, flush=True)
    os._exit(1)  # Ray would never let the other threads go
