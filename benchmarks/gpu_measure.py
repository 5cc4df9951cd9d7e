"""One part of `benchmarks/gpu.py`: the same work by several contenders in turn, a row each."""

from __future__ import annotations

import contextlib
import gc
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from gpu_cases import COMPILED, Case, How, Work
from gpu_device import busy_seconds, forget_peak, free_memory, peak_mib
from gpu_limits import Cost, counted, shares
from gpu_ours import ours
from gpu_plain import plain
from models import fresh_model
from timing import interleaved
from torch import nn

from diffusion_ood.model import Diffusion
from diffusion_ood.runtime.device import autocast, synchronize

Row = dict[str, Any]
SHORT_S, AGAIN_S = 0.001, 5.0


@dataclass(frozen=True)
class Bench:
    """How long and beside what everything is measured.

    Args:
        device: that is measured.
        peaks: its best rates, see `gpu_limits.shares`.
        run_s: seconds of a timed run, at least one batch.
        runs: timed runs of each contender.
        limit_s: after which a contender that is not ready is given up.
    """

    device: torch.device
    peaks: Mapping[str, float]
    run_s: float = 0.2
    runs: int = 5
    limit_s: float = 120.0


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise a `TimeoutError` in the block after so many seconds, and again where that is caught."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} s")

    begin, handler = time.perf_counter(), signal.signal(signal.SIGALRM, late)
    outer, again = signal.setitimer(signal.ITIMER_REAL, max(SHORT_S, seconds), AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:  # a block around this one goes on with what is left of its time
            left = outer - (time.perf_counter() - begin)
            signal.setitimer(signal.ITIMER_REAL, max(SHORT_S, left), again)


def failure(step: Callable[[], object]) -> str | None:
    """Why a step failed; None where it did not."""
    try:
        step()
    except TimeoutError as error:
        return str(error)
    except Exception as error:  # of a compiler or of memory, say: others are still measured
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:200]}"
    return None


@dataclass
class Contender:
    """One way to do the work; whatever fails is kept in its row, and it takes no further part."""

    case: Case
    how: How
    bench: Bench
    row: Row = field(init=False)
    work: Work | None = None
    batches: int = 1  # of a timed run

    def __post_init__(self) -> None:
        self.row = {**asdict(self.case), **asdict(self.how)}

    def tried(self, step: Callable[[], object]) -> None:
        """Take a step, unless an earlier one failed."""
        if "error" not in self.row and (reason := failure(step)):
            self.row["error"], self.work = reason, None
            free_memory(self.bench.device)

    def prepare(self, model: Diffusion, seconds: float) -> None:
        """Make it, and let it settle: what its first batches take longer than later ones it costs.

        Compiling and capturing are in it; so is what torch's libraries look up at a first call.
        """
        device = self.bench.device
        taken = forget_peak(device)
        with within(min(seconds, self.bench.limit_s)):
            make = {"plain": plain, "ours": ours}[self.how.side]
            self.work = make(self.case, self.how, model, device)
            begin = time.perf_counter()
            self.once()
            first = time.perf_counter() - begin
            self.once(self.work.settles - 1)
            settled = time.perf_counter() - begin
            again = min(self._timed() for _ in range(2))
        self.batches = max(1, round(self.bench.run_s / again))
        self.row |= {
            "images_a_batch": self.work.images,
            "calls_an_image": self.work.calls,
            "share_of_work_run": self.work.share,
            "ran": self.work.ran(),
            "first_batch_s": first,
            "one_off_s": max(0.0, settled - self.work.settles * again),
            "peak_mib": peak_mib(device) - taken,
        }

    def once(self, batches: int = 1) -> None:
        """Do so many batches, and wait for the device."""
        assert self.work is not None, "what failed is not run"
        self.work.run(batches * self.work.images)
        synchronize(self.bench.device)

    def _timed(self) -> float:
        begin = time.perf_counter()
        self.once()
        return time.perf_counter() - begin

    def rates(self, seconds: tuple[float, ...]) -> list[float]:
        """Images a second of each timed run."""
        assert self.work is not None, "what failed was not timed"
        images = self.batches * self.work.images * self.work.share
        return [images / one for one in seconds]

    def explain(self, cost_a_call: Cost) -> None:
        """What limits it, by a profiled batch."""
        assert self.work is not None, "what failed is not explained"
        seconds = self.work.images * self.work.share / self.row["images_per_s"]
        found = busy_seconds(self.once, self.bench.device)
        busy = None if found is None else min(1.0, found / seconds)
        cost = cost_a_call * (self.work.images * self.work.calls)
        fused = self.how.mode in COMPILED or "on: " in self.row["ran"]
        self.row |= shares(cost, seconds, busy, fused, self.bench.peaks)


def measured(case: Case, hows: tuple[How, ...], bench: Bench, seconds: float) -> list[Row]:
    """The rows of all contenders, which are measured in turn within so many seconds."""
    end = time.perf_counter() + seconds
    contenders = [Contender(case, how, bench) for how in hows]

    def all_in_time() -> None:
        with within(seconds):
            _measure(case, contenders, bench, end)

    reason = failure(all_in_time)
    rows = [one.row for one in contenders]
    for row in rows:
        if reason and "limit" not in row:
            row.setdefault("error", reason)
    contenders.clear()
    torch._dynamo.reset()  # or what was compiled for this part would count for the next
    gc.collect()
    free_memory(bench.device)
    return rows


def _measure(case: Case, contenders: list[Contender], bench: Bench, end: float) -> None:
    model = fresh_model(case.model, case.sides)
    model.network.to(bench.device)
    for one in contenders:
        one.tried(partial(one.prepare, model, end - time.perf_counter()))
    runs = {
        n: partial(one.tried, partial(one.once, one.batches)) for n, one in enumerate(contenders)
    }
    times = interleaved(runs, bench.runs)
    done = {n: one for n, one in enumerate(contenders) if "error" not in one.row}
    rates = {n: one.rates(times[n].seconds) for n, one in done.items()}
    base = next((n for n, one in done.items() if str(one.how) == "plain bf16 eager"), None)
    for n, one in done.items():
        rate = sorted(rates[n])
        one.row |= {
            "images_per_s": rate[len(rate) // 2],
            "lowest": rate[0],
            "highest": rate[-1],
            "runs": len(rate),
        }
        if base is not None:
            pairs = sorted(a / b for a, b in zip(rates[n], rates[base], strict=True))
            one.row["over_plain_bf16"] = pairs[len(pairs) // 2]
    costs: dict[str, Cost] = {}
    for one in done.values():
        precision = one.how.precision
        costs.setdefault(precision, _cost(case, model, precision, bench.device))
        one.tried(partial(one.explain, costs[precision]))


def _cost(case: Case, model: Diffusion, precision: str, device: torch.device) -> Cost:
    """Of a network call on one image, or of a training step on one, by the eager network."""
    x = torch.rand(case.images, *model.image_shape, device=device)
    t = torch.zeros(case.images, device=device)
    learns = case.work == "training"
    model.network.requires_grad_(learns)

    def call() -> None:
        with torch.set_grad_enabled(learns), autocast(device, precision):
            output = model.network(x, t)
            if learns:
                nn.functional.mse_loss(output, x).backward()

    cost = counted(call) * (1 / len(x))
    model.network.zero_grad(set_to_none=True)
    return cost
