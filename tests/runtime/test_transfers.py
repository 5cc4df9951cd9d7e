"""Transfers, where there is no GPU: nothing is lost or rounded otherwise."""

from __future__ import annotations

import pytest
import torch

from diffusion_ood.runtime.transfers import Arriving, later, rows_of, to_device, to_like

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    x = torch.rand(3)
    assert to_device(x, CPU) is x
    assert Arriving(x).get() is x


def test_a_tensor_is_rounded_to_the_dtype_of_another() -> None:
    third = torch.tensor([1 / 3], dtype=torch.float64)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert torch.equal(to_like(third, torch.empty(1, dtype=dtype)), third.to(dtype))


@pytest.mark.parametrize("chosen", [[True, False, True], [False] * 3, [True] * 3])
def test_rows_are_those_of_a_mask_or_of_numbers(chosen: list[bool]) -> None:
    x, mask = torch.rand(3, 2, 2), torch.tensor(chosen)
    assert torch.equal(rows_of(x, mask), x[mask])
    assert torch.equal(rows_of(x, mask.nonzero()[:, 0]), x[mask])


@pytest.mark.parametrize(("device", "ahead"), [("cpu", 0), ("cuda", 1)])
@pytest.mark.parametrize("number", [0, 1, 5])
def test_results_of_a_gpu_come_as_the_next_are_under_way(
    device: str, ahead: int, number: int
) -> None:
    started: list[int] = []
    items = (started.append(k) or k for k in range(number))  # type: ignore[func-returns-value]
    for count, item in enumerate(later(items, torch.device(device))):
        assert item == count
        assert len(started) == min(number, item + 1 + ahead)
    assert len(started) == number
