"""Padding to the compiled batch size, with a compiler that compiles nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusion_ood.runtime.compiling import CompiledForFullBatches

BATCH = 8


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches a network: `compiled 8` for a batch of eight in the compiled one."""
    seen: list[str] = []

    def compile(network: Callable[..., Tensor], dynamic: bool) -> Callable[..., Tensor]:
        assert dynamic is False
        return lambda x, t: (seen.append(f"compiled {len(x)}"), formula(x, t))[1]

    monkeypatch.setattr(torch, "compile", compile)
    return seen


def formula(x: Tensor, t: Tensor) -> Tensor:
    return 2 * x + t.reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize(
    ("num", "expected"),
    [
        (9, "plain 9"),
        (8, "compiled 8"),
        (5, "compiled 8"),
        (3, "compiled 8"),
        (2, "compiled 8"),
        (1, "plain 1"),
    ],
)
@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 4, 4, 4)])
def test_large_batches_are_padded_and_small_ones_left_alone(
    num: int, expected: str, shape: tuple[int, ...], calls: list[str]
) -> None:
    def plain(x: Tensor, t: Tensor) -> Tensor:
        calls.append(f"plain {len(x)}")
        return formula(x, t)

    x, t = torch.randn(num, *shape), torch.arange(num)
    found = CompiledForFullBatches(plain, BATCH)(x, t)
    assert torch.equal(found, formula(x, t))
    assert calls == [expected]
