"""What measuring images will cost on this device, from a measured step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.measure import measure_all
from diffusion_ood.methods.pointwise import shared_calls
from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.registries import SCORES
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.cost import expected
from diffusion_ood.runtime.device import synchronize
from diffusion_ood.runtime.words import duration
from diffusion_ood.trajectories.evaluator import Evaluator

BUDGET = 10
"""The `budget` that docs/performance.md recommends."""

STEP_S, LEAST_SHARE, MOST_IMAGES = 1.0, 50, 16
"""What is timed takes at most a second, 1/50 of the work or one row, and so many images."""


def announcement(
    evaluator: Evaluator,
    methods: Sequence[Method],
    calls: int,
    cheaper: Sequence[Method] = (),
    cheaper_calls: int = 0,
    how: str = f"with `budget`={BUDGET}",
) -> str:
    """How long it will take, in a sentence; empty where it is short.

    Args:
        evaluator: the model on its device; it stays as it is.
        methods: what is measured, none of a plain use of the network.
        calls: network calls that are left, those of all processes together.
        cheaper, cheaper_calls: other methods, which are compared where they take fewer calls.
        how: to have those.
    """
    seconds, each = _seconds(evaluator, methods, calls)
    said = expected(seconds, evaluator.device, f"{calls:,} network calls, {duration(each)} each")
    if said and cheaper and cheaper_calls < calls:
        instead, _ = _seconds(evaluator, cheaper, cheaper_calls)
        if instead < seconds:
            said += f"; {how} about {duration(instead)}"
    return said


def cheaper_methods(
    options: ReconstructOptions,
    choose: Callable[[ReconstructOptions], list[Method]],
    diffusion: Diffusion,
) -> list[Method]:
    """What `choose` makes of the options at a budget of `BUDGET`; none where that is not less.

    Without LPIPS, whose weights would be looked for again, and which is little beside the calls.
    """
    if options.budget is not None and options.budget <= BUDGET:
        return []
    scores = tuple(name for name in options.scores if SCORES[name] is not PerceptualDifference)
    fewer = replace(options, budget=BUDGET, budget_steps=1, sampler=None, scores=scores or ("mse",))
    try:
        found = choose(fewer)
        return found if shared_calls(found, diffusion) else []
    except UserError:  # such as more repeats than that
        return []


def _seconds(evaluator: Evaluator, methods: Sequence[Method], calls: int) -> tuple[float, float]:
    """The seconds that calls will take this process, and one of them."""
    share = math.ceil(calls / distributed.world_size())
    each = seconds_a_call(evaluator, methods, share)
    return share * each, each


def seconds_a_call(evaluator: Evaluator, methods: Sequence[Method], calls: int) -> float:
    """What a network call takes for one row among many, with what methods make of the answers.

    First the bare eager call is timed. Then some images are measured, which finds what a fast GPU
    waits for, such as noise from the CPU. Where even one image takes long, the bare call stands for
    all: of the tiny network on a CPU, LPIPS and samplers added less than a quarter to it.

    Args:
        evaluator: the model on its device; an eager one like it is used in its place, so that
            neither its count nor its decision on compiling changes.
        methods: those that have still to learn are left out.
        calls: that this process has still to make; 0 seconds where there are none.
    """
    probe = Evaluator(
        evaluator.diffusion,
        evaluator.device,
        precision=evaluator.precision,
        compile="off",
        max_batch=evaluator.max_batch,
        min_rows=evaluator.min_rows,
    )
    seconds = _bare_call(probe, math.ceil(calls / LEAST_SHARE))
    methods = [method for method in methods if not method.learns]
    each = shared_calls(methods, probe.diffusion)
    if not seconds or not each:
        return seconds
    number = min(MOST_IMAGES, calls // (LEAST_SHARE * each), int(STEP_S / (each * seconds)))
    if number == 0:
        return seconds
    shape = number, *probe.diffusion.image_shape
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(probe.device)
    classes = torch.zeros(number, dtype=torch.int64)
    batch = ImageBatch(images, [*map(str, range(number))], classes)
    return _second_time(partial(measure_all, methods, batch, probe), probe) / (number * each)


def _bare_call(probe: Evaluator, most: int) -> float:
    """Seconds a row, of as many rows as a call may have and `STEP_S` allows, but `most`."""
    seconds, rows = 0.0, min(probe.min_rows, most)
    while 0 < rows <= min(most, probe.max_batch):
        x_t, t = torch.zeros(rows, *probe.diffusion.x_shape), torch.zeros(rows, dtype=torch.int64)
        seconds = _second_time(partial(probe.eps, x_t, t), probe) / rows
        larger = min(4 * rows, most, probe.max_batch)
        rows = larger if larger > rows and larger * seconds < STEP_S else 0
    return seconds


def _second_time(work: Callable[[], object], probe: Evaluator) -> float:
    """How long work takes when it is done again, as libraries are warm then."""
    seconds = 0.0
    for _ in range(2):
        synchronize(probe.device)
        begin = time.perf_counter()
        work()
        synchronize(probe.device)
        seconds = time.perf_counter() - begin
        if seconds > STEP_S:  # long, of which warming up is a small part
            break
    return seconds
