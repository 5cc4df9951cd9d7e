"""The cost that commands tell, by a clock and calls that the tests know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from gaussian import gaussian_diffusion
from torch import Tensor, nn

from diffusion_ood.methods import cost
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.chosen import chosen_methods
from diffusion_ood.methods.cost import announcement, cheaper_methods, seconds_a_call
from diffusion_ood.methods.pointwise import shared_calls
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.trajectories.evaluator import Evaluator


class Slow(nn.Module):
    """Takes so many seconds a row, and notes the rows of each call."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.rows = seconds, list[int]()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Zeros like x."""
        self.rows.append(len(x))
        time.sleep(self.seconds * len(x))
        return torch.zeros_like(x)


def slow(seconds: float, **options: Any) -> tuple[Slow, Evaluator]:
    diffusion = gaussian_diffusion()
    diffusion.network = network = Slow(seconds)
    return network, Evaluator(diffusion, "cpu", **{"compile": "off", **options})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A call takes 2 ms; the calls that were asked about."""
    asked: list[int] = []

    def seconds(evaluator: Evaluator, methods: Sequence[Method], calls: int) -> float:
        asked.append(calls)
        return 0.002

    monkeypatch.setattr(cost, "seconds_a_call", seconds)
    return asked


def test_images_times_calls_times_seconds(known: list[int]) -> None:
    _, evaluator = slow(0)
    methods = chosen_methods(ReconstructOptions(scores=("mse",)))
    said = announcement(evaluator, methods, 500 * 1225, methods, 500 * 10)
    assert said.startswith("about 20 min on 1 × cpu")
    assert "612,500 network calls, 2 ms each" in said
    assert said.endswith("about 10 s")
    assert known == [500 * 1225, 500 * 10]


def test_what_is_short_is_not_said(known: list[int]) -> None:
    _, evaluator = slow(0)
    assert announcement(evaluator, (), 500 * 10).startswith("about 10 s ")
    assert announcement(evaluator, (), 499 * 10) == ""
    assert announcement(evaluator, (), 0) == ""


def test_what_takes_as_many_calls_is_not_offered(known: list[int]) -> None:
    _, evaluator = slow(0)
    methods = chosen_methods(ReconstructOptions(methods=("path",)))
    same = announcement(evaluator, methods, 5000, methods, 5000)
    assert same == announcement(evaluator, methods, 5000)
    assert known == [5000, 5000]


def test_processes_divide_the_work(known: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    _, evaluator = slow(0)
    assert announcement(evaluator, (), 40_001).startswith("about 20 s on 4 × cpu")
    assert known == [10_001]


def test_a_real_call_is_timed_and_leaves_the_evaluator_as_it_was() -> None:
    network, evaluator = slow(0.0005, compile="auto", max_batch=16)
    evaluator.expect(5000)
    before = torch.random.get_rng_state()
    assert 0.0005 <= seconds_a_call(evaluator, (), 5000) <= 0.0015
    assert network.rows == [1, 1, 4, 4, 16, 16]
    assert (evaluator.calls, evaluator.decision()) == (0, None)
    assert evaluator._network._calls == 0
    assert torch.equal(torch.random.get_rng_state(), before)


def test_methods_are_timed_on_images_of_a_fiftieth_of_the_work() -> None:
    network, evaluator = slow(0, max_batch=16)
    options = ReconstructOptions(methods=("joined",), budget=3, scores=("mse",))
    assert seconds_a_call(evaluator, chosen_methods(options), 3 * 400) > 0
    assert sum(network.rows[6:]) == 2 * 8 * 3  # 400 / 50 images, twice
    network.rows.clear()
    seconds_a_call(evaluator, chosen_methods(options), 3 * 49)
    assert network.rows == [1, 1, 3, 3]  # 147 / 50 calls


def test_slow_calls_are_few() -> None:
    network, evaluator = slow(1.1, max_batch=64)
    assert 1.1 <= seconds_a_call(evaluator, (), 10**6) <= 1.4
    assert network.rows == [1]
    network, evaluator = slow(0.1, max_batch=64)
    methods = chosen_methods(ReconstructOptions(methods=("joined",), scores=("mse",)))
    seconds_a_call(evaluator, methods, 10**6)
    assert network.rows == [1, 1, 4, 4]  # sixteen rows, or an image of 30 calls, take too long


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (ReconstructOptions(scores=("mse",)), 10),
        (ReconstructOptions(scores=("mse",), budget=50, budget_steps=5), 10),
        (ReconstructOptions(scores=("mse",), budget=10), 0),
        (ReconstructOptions(scores=("mse",), repeats=11), 0),
        (ReconstructOptions(methods=("joined",), scores=("mse",)), 10),
        (ReconstructOptions(methods=("joined",), scores=("mse",), budget=3), 0),
    ],
)
def test_the_budget_that_is_offered(options: ReconstructOptions, calls: int) -> None:
    diffusion = gaussian_diffusion()
    found = cheaper_methods(options, chosen_methods, diffusion)
    assert shared_calls(found, diffusion) == calls
