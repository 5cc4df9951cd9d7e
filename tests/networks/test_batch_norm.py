"""Batch normalisation over processes is torch's own over one process with all of the images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_ood.networks.batch_norm import GlobalBatchNorm
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint

CHANNELS = 3
# The images of a batch, and their sides.
SHAPES = {"even": (4, 5, 4), "uneven": (5, 2, 2, 2), "empty share": (1, 4, 4)}
OFFSET = 100.0  # far from zero beside a deviation of one


def images(name: str, dtype: torch.dtype) -> Tensor:
    n, *sides = SHAPES[name]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, CHANNELS, *sides, generator=generator, dtype=torch.float64).to(dtype)


def normalise(norm: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What two steps with momentum give of these images of the batch, and the gradients."""
    torch.nn.init.constant_(norm.weight, 1.5)
    norm.train()
    for _ in range(2):
        x = (x + OFFSET).detach().requires_grad_()
        y = norm(x)
    (y * y.detach().sin()).sum().backward()
    assert x.grad is not None
    gradients = {name: weight.grad for name, weight in norm.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **gradients, **norm.state_dict(prefix="state ")}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_two_processes_normalise_as_one(
    dtype: torch.dtype, tolerance: float, launch: Callable[..., Any], tmp_path: Path
) -> None:
    """In float32 the offset alone rounds to 4e-6 of the deviation, which the gradients feel."""
    for done in launch(__file__, str(tmp_path), str(dtype).partition(".")[2], processes=2):
        assert done.returncode == 0, done.stderr
    for name, (n, *sides) in SHAPES.items():
        kind = nn.BatchNorm2d if len(sides) == 2 else nn.BatchNorm3d
        expected = normalise(kind(CHANNELS, dtype=dtype), images(name, dtype))
        shares = [load_checkpoint(tmp_path / f"{name} {rank}.pth")["found"] for rank in (0, 1)]
        for rank, found in enumerate(shares):
            for key in ("y", "x"):
                assert found[key].dtype == dtype
                mine = expected[key][rank:n:2]
                torch.testing.assert_close(found[key], mine, rtol=0, atol=tolerance)
            for key in ("state running_mean", "state running_var", "state num_batches_tracked"):
                torch.testing.assert_close(found[key], expected[key], rtol=tolerance, atol=0)
        for key in ("weight", "bias"):
            total = shares[0][key] + shares[1][key]
            torch.testing.assert_close(total, expected[key], rtol=0, atol=100 * tolerance)


def test_in_one_process_and_in_evaluation_it_is_torchs_own_to_the_bit() -> None:
    x = images("even", torch.float32)
    own, theirs = GlobalBatchNorm(CHANNELS), nn.BatchNorm2d(CHANNELS)
    found, expected = normalise(own, x), normalise(theirs, x)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert torch.equal(own.eval()(x), theirs.eval()(x))
    assert not torch.equal(own(x), own.train()(x))


def in_a_group(folder: Path, dtype: torch.dtype) -> None:
    """The body of each of the two processes."""
    with distributed.process_group("cpu"):
        for name in SHAPES:
            mine = images(name, dtype)[distributed.rank() :: distributed.world_size()]
            found = normalise(GlobalBatchNorm(CHANNELS, dtype=dtype), mine)
            save_checkpoint(folder / f"{name} {distributed.rank()}.pth", {"found": found})


if __name__ == "__main__":
    in_a_group(Path(sys.argv[1]), getattr(torch, sys.argv[2]))
