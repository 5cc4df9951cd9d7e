"""3 × 3 convolutions that normalise or enlarge their input themselves, on an Intel CPU with AMX.

AMX is the matrix unit of Intel's server CPUs since 2023. `amx_convolution.cpp` beside this says how
it is used.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SOURCE = Path(__file__).with_name("amx_convolution.cpp")
FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512bf16", "-mamx-tile", "-mamx-bf16")
BLOCK = 32  # channels that the matrix unit takes at once

_LIBRARY = torch.library.Library("diffusion_ood", "DEF")
_LIBRARY.define(
    "convolution(Tensor x, Tensor? scale, Tensor? shift, Tensor weights, Tensor bias, "
    "Tensor? residual, int factor) -> Tensor"
)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # torch's
def is_there() -> bool:
    """Whether this machine has the matrix unit and a compiler for it."""
    return _found()


@lru_cache(maxsize=1)
def _found() -> bool:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    try:
        has_unit = torch.cpu._is_amx_tile_supported() and torch.cpu._is_avx512_bf16_supported()
        if not (has_unit and torch.cpu._init_amx()):
            return False
        _compiled()
    except (OSError, RuntimeError):  # no compiler, or one that does not know the unit
        return False
    except (AttributeError, ImportError, TypeError):  # a torch whose private parts are others
        return False
    return True


@lru_cache(maxsize=1)
def _compiled() -> Any:  # noqa: ANN401 - a function of ctypes has no type of its own
    """The function of `amx_convolution.cpp`, which is compiled once a machine."""
    # Here, so that a torch that has it no more is caught by `_found`.
    from torch._inductor.codecache import CppCodeCache

    library = CppCodeCache.load(SOURCE.read_text(), extra_flags=FLAGS)
    function = library.convolution
    function.argtypes = [ctypes.c_void_p] * 7 + [ctypes.c_int] * 6
    function.restype = ctypes.c_int
    return function


def fits(convolution: nn.Module) -> bool:
    """Whether a convolution of images is of the kind that is computed here."""
    return (
        isinstance(convolution, nn.Conv2d)
        and convolution.kernel_size == (3, 3)
        and convolution.padding == (1, 1)
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.bias is not None
        and convolution.in_channels % BLOCK == convolution.out_channels % BLOCK == 0
    )


def silu_convolution(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
) -> Tensor:
    """Convolve SiLU(scale·x + shift) and add bias and residual.

    Args:
        x: `(B, C, H, W)` in bf16, C a multiple of 32.
        scale: of each image and channel, `(B, C)`.
        shift: of the same shape.
        weight: `(K, C, 3, 3)`, K a multiple of 32.
        bias: of each image and output channel, `(B, K)`.
        residual: `(B, K, H, W)` in bf16.

    Returns:
        `(B, K, H, W)` in bf16, in the channels-last layout.
    """
    y: Tensor = torch.ops.diffusion_ood.convolution(
        _channels_last(x),
        scale.float().contiguous(),
        shift.float().contiguous(),
        in_tiles(weight.flatten(2).unsqueeze(0)),
        bias.float().contiguous(),
        None if residual is None else _channels_last(residual),
        1,
    )
    return y.permute(0, 3, 1, 2)


def enlarged_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve an image whose every pixel was repeated twice in a row and a column.

    Args:
        x: `(B, C, H, W)` in bf16, C a multiple of 32.
        weight: `(K, C, 3, 3)`, K a multiple of 32.
        bias: of each output channel, (K,).

    Returns:
        `(B, K, 2·H, 2·W)` in bf16, in the channels-last layout.
    """
    y: Tensor = torch.ops.diffusion_ood.convolution(
        _channels_last(x),
        None,
        None,
        in_tiles(phases(weight)),
        bias.float().expand(len(x), -1).contiguous(),
        None,
        2,
    )
    return y.permute(0, 3, 1, 2)


def phases(weight: Tensor) -> Tensor:
    """What 3 × 3 weights `(K, C, 3, 3)` add up to on repeated pixels, `(4, K, C, 4)`.

    An even row sees the row before its pixel's once and its pixel's twice, an odd one its pixel's
    twice and the next once; and so the columns.
    """
    sums = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    with torch.autocast("cpu", enabled=False):  # rounded once, when they are added up
        found = torch.einsum("pay,qbx,kcyx->pqkcab", sums, sums, weight)
    return found.flatten(4).flatten(0, 1)


def in_tiles(weight: Tensor) -> Tensor:
    """Weights (phases, K, C, places) in the order in which the matrix unit reads them, in bf16."""
    count, outputs, inputs, places = weight.shape
    parts = weight.bfloat16().reshape(
        count, outputs // BLOCK, 2, 16, inputs // BLOCK, 16, 2, places
    )
    return parts.permute(1, 0, 4, 7, 2, 5, 3, 6).contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


@torch.library.register_fake("diffusion_ood::convolution", lib=_LIBRARY)  # type: ignore[untyped-decorator] # torch's
def _empty(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    weights: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    factor: int,
) -> Tensor:
    images, height, width = x.shape[:3]
    return x.new_empty(images, factor * height, factor * width, bias.shape[1])


@torch.library.impl(_LIBRARY, "convolution", "CPU")
def _run(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    weights: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    factor: int,
) -> Tensor:
    y = _empty(x, scale, shift, weights, bias, residual, factor)
    given = (x, scale, shift, weights, bias, residual, y)
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in given]
    if not _compiled()(*pointers, *x.shape, bias.shape[1], factor):
        raise MemoryError(f"no memory to convolve {tuple(x.shape)}")
    return y
