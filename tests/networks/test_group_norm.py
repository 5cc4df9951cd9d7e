"""Compiled group normalisation by channels is torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffusion_ood.networks.layers import ChannelwiseGroupNorm
from diffusion_ood.networks.unet import build_unet

GROUPS = 4
SHAPES = [(3, 4, 6, 5), (2, 12, 4, 4), (2, 8, 3, 2, 4)]


def normalise(norm: nn.Module, x: Tensor, *, compiled: bool) -> dict[str, Tensor]:
    """What it gives, and the gradients."""
    generator = torch.Generator().manual_seed(2)
    for weight in norm.parameters():
        nn.init.normal_(weight, generator=generator)
    x = x.clone().requires_grad_()
    torch._dynamo.reset()
    # This backend runs what is compiled without the minutes of a C++ compiler.
    y = (torch.compile(norm, backend="aot_eager") if compiled else norm)(x)
    (y * y.detach().sin()).sum().backward()
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad} | {
        name: weight.grad for name, weight in norm.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "offset", "tolerance"),
    [
        (torch.float64, 0.0, 1e-12),
        (torch.float32, 0.0, 2e-6),
        (torch.float32, 300.0, 1e-4),  # of rounding of x itself: 300 / 2^24 is 2e-5
        (torch.bfloat16, 0.0, 2e-2),
    ],
)
def test_compiled_it_is_torchs_group_norm(
    shape: tuple[int, ...], dtype: torch.dtype, offset: float, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) + offset
    x, channels = x.to(dtype), shape[1]
    own = ChannelwiseGroupNorm(GROUPS, channels).to(dtype)
    expected = normalise(nn.GroupNorm(GROUPS, channels).to(dtype), x, compiled=False)
    found = normalise(own, x, compiled=True)
    assert found.keys() == expected.keys() == {"y", "x", "weight", "bias"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance * 10)


def test_a_constant_image_is_not_divided_by_zero() -> None:
    own = torch.compile(ChannelwiseGroupNorm(GROUPS, 8), backend="aot_eager")
    found = own(torch.full((2, 8, 4, 4), 1e4))
    assert torch.equal(found, torch.zeros_like(found))


def test_every_norm_of_the_unet_is_of_this_kind_and_the_weights_keep_their_names() -> None:
    network = build_unet("tiny", (1, 8, 8))
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) > 10
    assert all(isinstance(norm, ChannelwiseGroupNorm) for norm in norms)
    assert {norm.eps for norm in norms} == {1e-6}
    assert "out.0.weight" in network.state_dict()
