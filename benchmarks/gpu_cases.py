"""What `benchmarks/gpu.py` measures, the most important first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

CALLS = 10
"""Network calls an image of a screening."""
GRID_SKIP, MEASURED_SKIP = 4, 50
"""Every N-th start point of the paper's grid, which are 1,225 calls, and of the part of it that is
run: 2 of 25 start points. Its time is scaled by the calls.
"""
MODES = ("auto", "eager", "graph", "compiled", "max-autotune-no-cudagraphs", "reduce-overhead")
"""How a network of ours is called: as the product chooses; as it is; as a CUDA graph of that; and
compiled, in torch's modes of these names, the first of which is its default.
"""
COMPILED = MODES[3:]
IMAGES = {"micro": 2, "tiny": 256, "small": 256, "big": 64}  # of 32 × 32 that are measured together
LEAST_IMAGES, PIXELS = 16, 32 * 32


@dataclass(frozen=True)
class Case:
    """The same work for all who do it.

    Attributes:
        work: `screening` by the distances of `CALLS` calls, `joined` by all evidence from as many,
            `grid` down the paper's grid, or `training`.
        model: a size of the U-Net.
        sides: of an image.
    """

    work: str
    model: str
    sides: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.work} {self.model} {'x'.join(map(str, self.sides))}"

    @property
    def images(self) -> int:
        """That the plain loop measures together, or a step learns from; fewer of large ones."""
        most = IMAGES[self.model] // (2 if self.work == "training" else 1)
        return min(most, max(LEAST_IMAGES, most * PIXELS // math.prod(self.sides)))


@dataclass(frozen=True)
class How:
    """Who does the work, and how.

    Attributes:
        side: `plain`, the loop of `reference.py`, or `ours`.
        precision: of autocast.
        mode: of `MODES`; the plain loop is eager.
        rows: of a network call of ours; None is the product's choice.
        expected: rows or steps of the work that is to come, by which the product chooses.
    """

    side: str
    precision: str = "bf16"
    mode: str = "eager"
    rows: int | None = None
    expected: int = 10**8

    def __str__(self) -> str:
        rows = f", {self.rows} rows" if self.rows else ""
        return f"{self.side} {self.precision} {self.mode}{rows}"


@dataclass(frozen=True)
class Work:
    """Something that can be run.

    Attributes:
        run: does the work of so many images.
        images: that are done together: `run` takes a multiple of them.
        calls: network calls that an image costs in `run`.
        share: of an image's whole work that `run` does.
        settles: batches after which all is decided, compiled and captured.
        ran: says afterwards how the network was called.
    """

    run: Callable[[int], object]
    images: int
    calls: int = 1
    share: float = 1.0
    settles: int = 1
    ran: Callable[[], str] = lambda: "eager"


Part = tuple[Case, tuple[How, ...]]

PLAIN = (How("plain", "fp32"), How("plain"))
FEW = (*PLAIN, How("ours"), How("ours", mode="graph"))
AUTO = How("ours", mode="auto")
AIMED = 3
"""So many parts are about what is aimed at."""


def order() -> list[Part]:
    """What is aimed at, then how many rows are best, every size, and what takes long to compile."""
    small, big = ("small", (32, 32)), ("big", (64, 64))
    aimed: list[Part] = [
        (Case("screening", *small), (*FEW, AUTO)),
        (Case("training", *small), (*FEW, AUTO)),
        (Case("screening", *big), FEW),
    ]
    rows = [How("ours", mode="graph", rows=n) for n in (256, 1024, 2048)]
    joined = Case("joined", *small), (PLAIN[1], *FEW[2:])
    sizes: list[tuple[str, tuple[int, ...]]]
    sizes = [("tiny", (32, 32)), big, ("tiny", (28, 28)), small, ("small", (28, 28))]
    sizes += [("big", (32, 32)), ("tiny", (64, 64)), ("small", (64, 64)), ("big", (28, 28))]
    sizes.append(("tiny", (32, 32, 32)))
    cases = [Case(work, *size) for work in ("screening", "training", "grid") for size in sizes]
    done = {case for case, _ in aimed}
    wide = [(case, FEW) for case in cases if case not in done]
    compiled = [
        (Case(work, *small), (PLAIN[1], *(How("ours", mode=mode) for mode in COMPILED)))
        for work in ("screening", "training")
    ]
    number = sum(case.work != "grid" for case, _ in wide)
    last = (Case("screening", *big), (PLAIN[1], AUTO))
    more = [*wide[:number], *compiled, last, *wide[number:]]
    return [*aimed, (Case("screening", *small), (PLAIN[1], *rows)), joined, *more]


def quick_order() -> list[Part]:
    """The same works in the smallest form, which a CPU does in seconds."""
    auto = How("ours", "fp32", "auto", expected=0)
    return [
        (Case("screening", "micro", (8, 8)), (*FEW[1:], auto)),
        (Case("training", "micro", (8, 8)), (*FEW[1:], auto)),
        (Case("grid", "micro", (8, 8)), (PLAIN[0], auto)),
    ]
