"""The decision to compile, on clocks that the tests set."""

from __future__ import annotations

import time

import pytest
import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import compiling
from diffusion_ood.runtime.compiling import CompileDecision
from diffusion_ood.runtime.words import duration

CPU = torch.device("cpu")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a compiler."""
    monkeypatch.setattr(compiling, "compiler_is_there", lambda device: True)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without one."""
    monkeypatch.setattr(compiling, "compiler_is_there", lambda device: False)


def sentences(decision: CompileDecision, num: int, remaining: int) -> list[str | None]:
    return [decision.after_step(remaining) for _ in range(num)]


def tick(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every step, from now on, takes so many seconds."""
    steps = iter(range(2, 1000, 6))  # the clock is read after step 2 and after step 8
    monkeypatch.setattr(time, "perf_counter", lambda: next(steps) * seconds)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("seconds_left", "precision", "device", "expected"),
    [
        (0, "bf16", "cpu", False),
        (119, "bf16", "cpu", False),
        (121, "bf16", "cpu", True),
        (599, "fp32", "cpu", False),
        (601, "fp32", "cpu", True),
        (799, "bf16", "cuda", False),
        (801, "fp16", "cuda:1", True),
    ],
)
def test_compiling_has_to_save_more_than_it_costs(
    seconds_left: float, precision: str, device: str, expected: bool
) -> None:
    policy = CompileDecision("auto", torch.device(device), precision)
    assert (policy.is_open, policy.compile_now, policy.reason) == (True, False, "")
    assert policy.observe(seconds_left) is expected
    assert (policy.is_open, policy.compile_now) == (False, expected)
    assert f" {duration(seconds_left)} " in policy.reason


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("remaining", "expected"), [(59, False), (61, True)])
def test_auto_decides_once_by_the_time_of_a_step_and_the_steps_left(
    remaining: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick(monkeypatch, 2.0)
    decision = CompileDecision("auto", CPU, "bf16")
    found = sentences(decision, 20, remaining)
    assert [k for k, sentence in enumerate(found, start=1) if sentence] == [8]
    assert decision.compile_now is expected
    assert f" {duration(2 * remaining)} " in str(found[7])


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("mode", "compile_now"), [("on", True), ("off", False)])
def test_on_and_off_are_not_decided_again_but_their_steps_are_timed(
    mode: str, compile_now: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick(monkeypatch, 2.0)
    decision = CompileDecision(mode, CPU, "bf16")
    assert decision.compile_now is compile_now
    timed = []
    for _ in range(20):
        assert decision.after_step(10**9) is None
        timed.append(decision.timed_now)
    assert [k for k, now in enumerate(timed, start=1) if now] == [8]
    assert decision.seconds_a_step == 2.0


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_auto_is_off_and_on_is_a_mistake() -> None:
    assert sentences(CompileDecision("auto", CPU, "bf16"), 20, 10**9) == [None] * 20
    assert CompileDecision("auto", CPU, "bf16").compile_now is False
    with pytest.raises(UserError, match=r"`compile`.*cpu"):
        CompileDecision("on", CPU, "bf16")
