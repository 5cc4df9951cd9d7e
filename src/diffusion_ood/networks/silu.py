"""SiLU without a call of the exponential, for compiled bf16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks.replacing import replace_modules


class BF16SiLU(nn.SiLU):
    """y = x·σ(x), σ the logistic function.

    Where a compiled program for a CPU runs it in bf16, it is `silu_of_bf16`, its gradient too.
    There torch's compiler calls a function for the exponential, which took longer than all else
    that is done to a value between two convolutions. Everywhere else it is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if torch.compiler.is_compiling() and x.device.type == "cpu" and x.dtype == torch.bfloat16:
            y: Tensor = _SiLU.apply(x)
            return y
        return super().forward(x)


class _SiLU(torch.autograd.Function):
    """`silu_of_bf16`, and `slope_of_bf16` for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        ctx.save_for_backward(x)
        return silu_of_bf16(x.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        (x,) = ctx.saved_tensors
        return (gradient.float() * slope_of_bf16(x.float())).to(x.dtype)


def silu_of_bf16(x: Tensor) -> Tensor:
    """x·σ(x) = max(x, 0) − |x|·σ(−|x|) to within 8e-5.

    What is taken off goes to zero by itself where |x| is large, so that nothing has to be clamped.
    """
    size = x.abs()
    return functional.relu(x) - size * _tail(size)


def slope_of_bf16(x: Tensor) -> Tensor:
    """The derivative σ(x)·(1 + x·(1 − σ(x))) of the same, with the same σ."""
    tail = _tail(x.abs())
    return torch.where(x >= 0, 1 - tail, tail) + x * (tail * (1 - tail))


def _tail(size: Tensor) -> Tensor:
    """σ(−x) = 1/(1 + e^x) of x ≥ 0, with a polynomial p(x)⁸ for e^x.

    The coefficients were fitted by least squares, weighted anew until the largest error of x·σ(x)
    fell no more; bf16 rounds a value of 0.04 by as much.
    """
    root = ((4.54681e-4 * size + 7.38597e-3) * size + 0.125433420) * size + 0.999924760
    square = root * root
    fourth = square * square
    return 1 / (1 + fourth * fourth)


def activate_in_bf16(network: nn.Module) -> None:
    """Let a network's SiLU be `BF16SiLU`."""
    replace_modules(network, nn.SiLU, lambda _: BF16SiLU())
