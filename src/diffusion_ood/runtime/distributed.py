"""Processes under torchrun; in a single process these functions do nothing."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import (  # type: ignore[attr-defined] # public by torch's documents
    PrefixStore,
    TCPStore,
)
from torch.nn.parallel import DistributedDataParallel

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import failures, launch
from diffusion_ood.runtime.device import pick_device

Item = TypeVar("Item")

# One process may pack a million images, or score its shard, long before the others. A process that
# has died is noticed earlier, by its closed connections and by torchrun.
PATIENCE = timedelta(days=1)

POLL_S = 0.05
NOTICE_S = 8.0  # of waiting, after which a process says for whom it waits


@contextlib.contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join torchrun's processes and yield this process's device.

    The backend is NCCL if each process has its own CUDA device, and gloo otherwise: NCCL refuses
    two processes on one device, which occur with too few devices or with a name such as `cuda:1`.

    After an error the group is not destroyed, since that could wait for the others for ever.
    """
    if not launch.is_launched():
        yield pick_device(device)
        return
    chosen = pick_device(device, launch.number("LOCAL_RANK"))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    here = launch.number("LOCAL_WORLD_SIZE", launch.number("WORLD_SIZE"))
    spread = device == "auto" or torch.device(device).index is None
    alone = here == 1 or (spread and here <= torch.cuda.device_count())
    _join("cpu:gloo,cuda:nccl" if chosen.type == "cuda" and alone else "gloo")
    yield chosen
    distributed.destroy_process_group()


@contextlib.contextmanager
def _said(sentence: str) -> Iterator[None]:
    """Print a sentence if what happens inside takes long."""
    timer = threading.Timer(NOTICE_S, print, [sentence], {"flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def said_for_whom() -> contextlib.AbstractContextManager[None]:
    """What happens inside may wait for other processes; if it takes long, say for which."""
    if world_size() == 1:
        return contextlib.nullcontext()
    others = ", ".join(str(other) for other in range(world_size()) if other != rank())
    return _said(f"process {rank()} waits for the processes {others}")


def _join(backend: str) -> None:
    number, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    with _said(
        f"process {number} waits at {place} for all of {size} processes to start; if there are no "
        "others, unset RANK, LOCAL_RANK and WORLD_SIZE"
    ):
        _join_at_once(backend)


def _join_at_once(backend: str) -> None:
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        distributed.init_process_group(backend, timeout=PATIENCE)
        return
    number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=PATIENCE)
    failures.start = _agree_on_a_name(store, number, size)
    distributed.init_process_group(
        backend,
        store=PrefixStore(failures.start, store),
        rank=number,
        world_size=size,
        timeout=PATIENCE,
    )


def _agree_on_a_name(store: TCPStore, number: int, size: int) -> str:
    """A name of this start, chosen by the first process and sent to the others.

    torchrun's store survives a restart and still holds the addresses of earlier processes. The
    number of restarts cannot be the name, since it differs between nodes.
    """
    own = uuid.uuid4().hex
    if number:
        store.set(f"start {number}", own)
        name: str = store.get(f"answer {own}").decode()
        store.set(f"{name} {number}", "")
        return name
    others = range(1, size)
    while not all(store.check([f"{own} {other}"]) for other in others):
        for other in others:
            if store.check([f"start {other}"]):  # perhaps of an earlier process
                store.set(f"answer {store.get(f'start {other}').decode()}", own)
        time.sleep(POLL_S)
    return own


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_group() -> bool:
    """Whether torchrun started this process, even as the only one."""
    return distributed.is_initialized()


def barrier() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        with said_for_whom():
            distributed.barrier()


def share() -> slice:
    """What selects this process's items; every item belongs to exactly one process."""
    return slice(rank(), None, world_size())


def shard(items: Sequence[Item]) -> list[Item]:
    """This process's items."""
    return list(items[share()])


def print_once(*values: object) -> None:
    """Print in the first process alone."""
    if rank() == 0:
        print(*values, flush=True)


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of every process's `values`, in every process."""
    if distributed.is_initialized():
        with said_for_whom():
            distributed.all_reduce(values)
    return values


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether it is true in any process; does not wait for the device."""
    if not distributed.is_initialized():
        return list(flags)
    found = torch.tensor(flags, dtype=torch.uint8)
    with said_for_whom():
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return [flag != 0 for flag in found.tolist()]


def replicated(network: nn.Module) -> nn.Module:
    """The network with its gradients averaged over the processes; itself in a single process.

    On CUDA its batch normalisation is over the images of all processes. On a CPU, where torch has
    no such thing, each process normalises its own part of a batch, which needs two images at least,
    and the running averages are those of the first.
    """
    if not distributed.is_initialized():
        return network
    if next(network.parameters()).is_cuda:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    # Every step uses the same parameters; their gradients lie in the buckets that are summed.
    return DistributedDataParallel(network, static_graph=True, gradient_as_bucket_view=True)


def gather(value: Any) -> list[Any]:  # noqa: ANN401 - any picklable value of our own processes
    """Every process's `value`, in the order of their ranks, in every process."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    with said_for_whom():
        distributed.all_gather_object(values, value)
    return values


def require_same_on_all_ranks(value: object, sentence: str) -> None:
    """Check that every process has the same value; every process has to call this.

    Raises:
        UserError: the sentence, in every process, if a value differs.
    """
    first, *others = gather(value)
    if any(other != first for other in others):
        raise UserError(sentence)
