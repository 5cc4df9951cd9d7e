"""CUDA graphs: a network's launches recorded once, and repeated by one launch.

A small network's kernels are shorter than the time that Python takes to start them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before a recording, in which libraries choose kernels and take what they need
RECURS = 3  # calls of a size before it is recorded
MOST_GRAPHS = 8

Network = Callable[..., Tensor]
Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Runs some work; gives what repeats it on what is then in the same inputs, and its output, which
each repetition writes anew and that of other work may overwrite."""


class CudaRecorder:
    """Records work as CUDA graphs that share their memory: only one of them may run at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None  # of all, or memory would not be shared
        # All, as one that goes takes along what cuBLAS has on their stream.
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Recorder`."""
        if torch.is_autocast_enabled("cuda") and torch.is_autocast_cache_enabled():
            raise RuntimeError("autocast would let go of cast weights that the recording reads")
        with torch.cuda.device(self._device):
            self._stream = own = self._stream or torch.cuda.Stream()
            current = torch.cuda.current_stream()
            own.wait_stream(current)
            with torch.cuda.stream(own):
                for _ in range(WARM_UP):
                    work()
            current.wait_stream(own)
            graph = torch.cuda.CUDAGraph()
            pool = self._graphs[0].pool() if self._graphs else None
            # Threads that make noise may ask the driver for memory meanwhile.
            output = capture(graph, work, own, pool, "thread_local")
            self._graphs.append(graph)
        return graph.replay, output


def capture(
    graph: torch.cuda.CUDAGraph,
    work: Callable[[], Tensor],
    stream: torch.cuda.Stream,
    pool: Any = None,  # noqa: ANN401 - torch's handle
    mode: str = "global",
) -> Tensor:
    """The tensor that a graph writes to, in which work is captured on a stream.

    Args:
        graph: an empty one.
        work: is not done, only captured.
        stream: not the default one.
        pool: memory of another graph to share.
        mode: what else may not happen meanwhile, see `torch.cuda.graph`.

    Raises:
        RuntimeError: too little memory, or work that no graph can hold; with the first reason.
    """
    current = torch.cuda.current_stream(stream.device)
    try:
        with torch.cuda.graph(graph, pool, stream, capture_error_mode=mode):
            return work()
    except RuntimeError as error:  # torch says that there was one before
        first = error.__context__
        raise (first if isinstance(first, RuntimeError) else error) from None
    finally:
        torch.cuda.set_stream(current)  # torch stays on the other one where capturing fails


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on the device, where something can."""
    return CudaRecorder(device) if device.type == "cuda" else None


@dataclass
class _Recording:
    """A network recorded for inputs of one shape."""

    inputs: dict[str, Tensor]
    repeat: Callable[[], None]
    output: Tensor

    def __len__(self) -> int:
        return len(self.output)

    def holds(self, given: dict[str, Tensor], least: float) -> bool:
        """Whether these inputs fit in, and fill more than this share of the rows."""
        return self.inputs.keys() == given.keys() and all(
            least * len(own) < len(given[name]) <= len(own)
            and (own.shape[1:], own.dtype) == (given[name].shape[1:], given[name].dtype)
            for name, own in self.inputs.items()
        )

    def __call__(self, given: dict[str, Tensor]) -> Tensor:
        """The output for them; rows that are not filled keep what was there before."""
        rows = len(given["x"])
        for name, own in self.inputs.items():
            own[:rows].copy_(given[name])
        self.repeat()
        return self.output[:rows].clone()


class Recorded:
    """A network whose calls of sizes that recur are recordings; others go through it as it is.

    Smaller batches are padded to a recorded size of which they fill more than `least_share`.
    Weights must stay as and where they are, and no gradient can be taken. Where recording fails,
    for lack of memory or as a network does what cannot be recorded, the network goes on as it is.

    Args:
        network: maps `(B, C, *S)`, times (B,) and perhaps `class_labels` (B,) to a row for each, on
            one device, row by row.
        recorder: records it.

    Attributes:
        failure: why it could not be recorded, if it could not.
        least_share: to be set where it is known how much faster a recording is: a call of fewer
            rows is by itself as fast as one of all rows repeated, if rows are what takes time.
    """

    def __init__(self, network: Network, recorder: Recorder) -> None:
        self._network = network
        self._recorder = recorder
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._recordings: list[_Recording] = []
        self.failure = ""
        self.least_share = 1 / 4

    @torch.inference_mode()
    def __call__(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """The network's output for `(B, C, *S)` and times (B,)."""
        given = {"x": x, "t": t, **labels}
        output = self._repeated(given)
        if output is not None:
            return output
        size = (x.shape, *given)
        self._seen[size] += 1
        if self._seen[size] == RECURS:
            self.record(x, t, **labels)
            output = self._repeated(given)  # whose memory is there; the network's would be more
        return self._network(x, t, **labels) if output is None else output

    def _repeated(self, given: dict[str, Tensor]) -> Tensor | None:
        """The output of a recording for these inputs, where one fits."""
        for recording in self._recordings:
            if recording.holds(given, self.least_share):
                return recording(given)
        return None

    @torch.inference_mode()
    def record(self, x: Tensor, t: Tensor, **labels: Tensor) -> None:
        """Record the network for inputs of this size."""
        if self.failure or len(self._recordings) == MOST_GRAPHS:
            return
        x, t, labels = x.clone(), t.clone(), {name: part.clone() for name, part in labels.items()}
        try:
            repeat, output = self._recorder(lambda: self._network(x, t, **labels))
        except RuntimeError as error:
            self.failure = str(error).split("\n")[0]
            return
        self._recordings.append(_Recording({"x": x, "t": t, **labels}, repeat, output))
        self._recordings.sort(key=len)
