"""A training step as one CUDA graph, launched at once in place of its hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.graphs import capture

WARM_UP = 3  # steps, which libraries choose their kernels in
LEAST_STEPS = 50  # that repay recording, which takes about as long as a few steps

Inputs = dict[str, Tensor]


class Graph(Protocol):
    """Work that is recorded once, and then repeated on the same memory."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work as it will be recorded."""

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """Record the work without doing it; the tensor that it will write its result to."""

    def replay(self) -> None:
        """Do the work that was recorded."""


class CudaGraph:
    """A `Graph` of kernels.

    torch's default generator is part of it: dropout takes the masks of the seed at the time of the
    replay, as it would without a graph.
    """

    def __init__(self, device: torch.device) -> None:
        self._graph, self._side = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """On a stream of its own, since the default one cannot be recorded."""
        main = torch.cuda.current_stream(self._side.device)
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            found = work()
        main.wait_stream(self._side)
        return found

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """See `Graph`."""
        return capture(self._graph, work, self._side)

    def replay(self) -> None:
        """See `Graph`."""
        self._graph.replay()


def graph_on(device: torch.device) -> Graph | None:
    """A new graph, if the device has such a thing."""
    return CudaGraph(device) if device.type == "cuda" else None


class CapturedStep:
    """A step that becomes a graph after a few calls; its result is that of the plain step.

    What the step does must depend on nothing but tensors that stay where they are. Inputs of other
    shapes than the first ones, and all after a failure, go through the plain step.

    Args:
        step: takes a step on inputs and returns its loss.
        graph: to record it in.
    """

    def __init__(self, step: Callable[[Inputs], Tensor], graph: Graph) -> None:
        self._step = step
        self._graph: Graph | None = graph
        self._calls = 0
        self._inputs: Inputs = {}
        self._loss: Tensor | None = None

    def __call__(self, inputs: Inputs) -> Tensor:
        """Take the step; its loss, a scalar."""
        self._calls += 1
        if self._graph is not None and self._calls <= WARM_UP:
            return self._graph.warm_up(lambda: self._step(inputs))
        if self._graph is not None and self._loss is None:
            self._record(self._graph, inputs)
        if self._graph is None or self._loss is None or not self._fit(inputs):
            return self._step(inputs)
        for name, own in self._inputs.items():
            own.copy_(inputs[name])
        self._graph.replay()
        return self._loss.clone()

    def _fit(self, inputs: Inputs) -> bool:
        return all(own.shape == inputs[name].shape for name, own in self._inputs.items())

    def _record(self, graph: Graph, inputs: Inputs) -> None:
        self._inputs = {name: value.clone() for name, value in inputs.items()}
        try:
            self._loss = graph.record(lambda: self._step(self._inputs))
        except RuntimeError as error:  # too little memory, or what a graph cannot hold
            self._graph = None
            reason = str(error).split("\n")[0]
            distributed.print_once(f"the step goes on without a CUDA graph: {reason}")
