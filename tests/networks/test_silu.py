"""The SiLU of compiled bf16 is torch's own within the rounding of bf16, and runs nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks.silu import BF16SiLU, silu_of_bf16, slope_of_bf16
from diffusion_ood.networks.unet import build_unet

VALUES = torch.linspace(-60, 60, 240_001)


def test_its_error_is_at_most_eight_hundred_thousandths() -> None:
    exact = functional.silu(VALUES.double())
    error = (silu_of_bf16(VALUES) - exact).abs()
    assert error.max() < 8e-5
    small = (VALUES.abs() < 1) & (VALUES != 0)
    assert (error / exact.abs())[small].max() < 1e-3, "a quarter of bf16's rounding"


def test_it_is_zero_at_zero_and_right_where_the_polynomial_overflows() -> None:
    found = silu_of_bf16(torch.tensor([-1e5, 0.0, 1e5]))
    assert found.tolist() == [0, 0, 1e5]


def test_the_error_of_its_slope_is_at_most_two_ten_thousandths() -> None:
    exact = VALUES.double().requires_grad_()
    functional.silu(exact).sum().backward()
    assert exact.grad is not None
    assert (slope_of_bf16(VALUES) - exact.grad).abs().max() < 3e-4, "bf16 rounds 1 by 4e-3"
    assert slope_of_bf16(torch.tensor([-1e5, 1e5])).tolist() == [0, 1]


def activate(x: Tensor, *, compiled: bool) -> Tensor:
    torch._dynamo.reset()
    module = BF16SiLU()
    return (torch.compile(module, backend="aot_eager") if compiled else module)(x)


@torch.no_grad()
def test_compiled_bf16_runs_it() -> None:
    x = VALUES.bfloat16()
    assert torch.equal(activate(x, compiled=True), silu_of_bf16(x.float()).bfloat16())
    assert not torch.equal(activate(x, compiled=True), functional.silu(x))


def test_its_gradient_in_compiled_bf16_is_the_slope() -> None:
    x = VALUES.bfloat16().requires_grad_()
    given = torch.linspace(-2, 2, len(x)).bfloat16()
    activate(x, compiled=True).backward(given)
    assert x.grad is not None
    expected = (given.float() * slope_of_bf16(x.detach().float())).bfloat16()
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize(
    ("dtype", "compiled"), [(torch.float32, True), (torch.bfloat16, False), (torch.float16, True)]
)
@pytest.mark.parametrize("gradient", [True, False])
def test_elsewhere_torchs_own_runs(dtype: torch.dtype, compiled: bool, gradient: bool) -> None:
    x = VALUES.to(dtype).requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        assert torch.equal(activate(x, compiled=compiled), functional.silu(x))


def test_every_silu_of_the_unet_is_of_this_kind() -> None:
    network = build_unet("tiny", (1, 8, 8))
    found = [module for module in network.modules() if isinstance(module, nn.SiLU)]
    assert len(found) > 10
    assert all(isinstance(module, BF16SiLU) for module in found)
