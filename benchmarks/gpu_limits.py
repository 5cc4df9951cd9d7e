"""What limits a run: launches, memory or arithmetic.

The rule. Where the device is busy for less than `LEAST_BUSY` of the time, it waits for the CPU to
launch its work: `launch`. Else two shares are compared, both of rates that the same run measured on
the same card: the network's operations a second over those of the best convolution, and the bytes
that it moves a second over those of a large copy. The larger share is the nearer limit:
`arithmetic` or `memory`.

Bytes are counted, not measured: what every operation of the eager network reads and writes. A
compiled network fuses most of them into its convolutions and matrix products, so that of it only
what these read and write is counted, which is the least that it can move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

LEAST_BUSY = 0.7


@dataclass(frozen=True)
class Cost:
    """What something costs whatever it runs on.

    Attributes:
        flops: floating-point operations.
        eager_bytes: that all its operations read and write.
        fused_bytes: that its convolutions and matrix products do.
    """

    flops: float
    eager_bytes: float
    fused_bytes: float

    def __mul__(self, number: float) -> Cost:
        return Cost(self.flops * number, self.eager_bytes * number, self.fused_bytes * number)


def counted(run: Callable[[], object]) -> Cost:
    """What `run` costs, backward passes included."""
    # The counter of operations takes composite ones apart, so it comes first.
    with _Bytes() as moved, FlopCounterMode(display=False) as counter:
        run()
    return Cost(float(counter.get_total_flops()), moved.eager, moved.fused)


class _Bytes(TorchDispatchMode):
    """Adds up the bytes that operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.eager = self.fused = 0.0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: Sequence[type],
        args: Any = (),  # noqa: ANN401 - as above
        kwargs: Any = None,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        output = func(*args, **(kwargs or {}))
        read = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        written = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
        if read and not func.is_view:
            moved = sum(map(_bytes, read + written))
            self.eager += moved
            self.fused += moved if func._overloadpacket in flop_registry else 0
        return output


def _bytes(x: Tensor) -> int:
    """Of a tensor; an expanded one is no larger than what it expands."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def shares(
    cost: Cost, seconds: float, busy: float | None, fused: bool, peaks: Mapping[str, float]
) -> dict[str, Any]:
    """How near a run came to each limit, and which is the nearest.

    Args:
        cost: of the run.
        seconds: that it took.
        busy: share of them in which the device computed, if that is known.
        fused: whether the network was compiled.
        peaks: `matrix_tflops`, `convolution_tflops` and `copy_tb_s` of the same card.
    """
    tflops = cost.flops / seconds / 1e12
    tb_s = (cost.fused_bytes if fused else cost.eager_bytes) / seconds / 1e12
    arithmetic, memory = tflops / peaks["convolution_tflops"], tb_s / peaks["copy_tb_s"]
    return {
        "tflops": tflops,
        "share_of_best_matrix": tflops / peaks["matrix_tflops"],
        "share_of_best_convolution": arithmetic,
        "share_of_copy_rate": memory,
        "busy": busy,
        "limit": limit(busy, arithmetic, memory),
    }


def limit(busy: float | None, arithmetic: float, memory: float) -> str:
    """The name of the nearest limit, by the rule above."""
    if busy is None:
        return "not known"
    if busy < LEAST_BUSY:
        return "launch"
    return "arithmetic" if arithmetic >= memory else "memory"
