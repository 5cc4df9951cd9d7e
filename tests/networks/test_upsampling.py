"""Enlargements where they are compiled: MONAI's numbers, and a gradient without a scatter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks.backend import UPSAMPLINGS, diffusion_unet
from diffusion_ood.networks.layers import Upsampling, enlarged
from diffusion_ood.networks.unet import TINY, build_unet


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 2, 3, 4, 5)])
def test_every_pixel_is_repeated(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(enlarged(x), functional.interpolate(x, scale_factor=2.0, mode="nearest"))


def enlargement(sides: int) -> nn.Module:
    """The first one of a U-Net of so many sides."""
    torch.manual_seed(0)
    network = build_unet("tiny", (1, *[8] * sides))
    return next(module for module in network.modules() if isinstance(module, Upsampling))


def original(sides: int) -> nn.Module:
    """MONAI's, which that one replaces."""
    network = diffusion_unet(
        TINY.channels,
        spatial_dims=sides,
        in_channels=1,
        out_channels=1,
        num_res_blocks=1,
        attention_levels=TINY.attention_levels,
        num_head_channels=64,
    )
    return next(module for module in network.modules() if isinstance(module, UPSAMPLINGS))


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the gradients of its squares' sum by the input and the first weight."""
    x = x.clone().requires_grad_()
    y = module(x)
    weight = next(module.parameters())
    return y, *torch.autograd.grad(y.square().sum(), (x, weight))


@pytest.mark.parametrize("sides", [2, 3])
def test_compiled_it_gives_the_numbers_and_gradients_of_monais(sides: int) -> None:
    own = enlargement(sides).double()
    theirs = original(sides).double()
    theirs.load_state_dict(own.state_dict())
    x = torch.randn(2, 64, *[4] * sides, generator=torch.Generator().manual_seed(1)).double()
    torch._dynamo.reset()
    found = gradients(torch.compile(own, backend="aot_eager"), x)
    assert all(map(torch.equal, gradients(own, x), gradients(theirs, x)))
    for ours, expected in zip(found, gradients(theirs, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-10)


def test_compiled_it_scatters_nothing() -> None:
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph.print_readable(print_output=False))
        return graph

    torch._dynamo.reset()
    torch.compile(enlargement(2), backend=backend)(torch.zeros(1, 64, 4, 4))
    assert len(graphs) == 1
    assert "expand" in graphs[0]
    assert "interpolate" not in graphs[0]
