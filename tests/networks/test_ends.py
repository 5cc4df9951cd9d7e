"""The U-Net's first and last convolution: exact in bf16 too, with MONAI's weights and names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.networks.ends import exact_ends
from diffusion_ood.networks.unet import build_unet


class Ends(nn.Module):
    """A network of two convolutions, named as a U-Net's are."""

    def __init__(self, kind: type[nn.Conv2d | nn.Conv3d]) -> None:
        super().__init__()
        self.conv_in = nn.Module()
        self.conv_in.conv = kind(3, 64, 3, padding=1)
        self.out = nn.Sequential(nn.Module())
        self.out[0].conv = kind(64, 3, 3, padding=1)


def network(kind: type[nn.Conv2d | nn.Conv3d] = nn.Conv2d) -> Ends:
    """Its first weights are numbers of bf16, so that its input's rounding alone is seen."""
    torch.manual_seed(0)
    made = Ends(kind)
    with torch.no_grad():
        for parameter in made.conv_in.conv.parameters():
            parameter.copy_(parameter.bfloat16())
    exact_ends(made)
    return made.eval()


def noisy(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("compiled", [False, True])
@torch.inference_mode()
def test_the_first_does_not_round_the_image(compiled: bool) -> None:
    first, x = network().conv_in.conv, noisy(4, 3, 8, 8)
    expected = functional.conv2d(x, first.weight, first.bias, padding=1)
    torch._dynamo.reset()
    with torch.autocast("cpu", torch.bfloat16):
        found = (torch.compile(first) if compiled else first)(x)
        plain = functional.conv2d(x, first.weight, first.bias, padding=1)
    assert found.dtype == torch.bfloat16
    best = (expected.bfloat16() - expected).square().mean().sqrt()  # its output is rounded alone
    error, without = ((y - expected).square().mean().sqrt() for y in (found, plain))
    assert error < 1.02 * best
    assert without > 1.3 * best


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_the_last_is_that_of_fp32(dtype: torch.dtype) -> None:
    last, h = network().out[-1].conv, noisy(2, 64, 8, 8).to(dtype)
    with torch.autocast("cpu", dtype):
        found = last(h)
    assert torch.equal(found, functional.conv2d(h.float(), last.weight, last.bias, padding=1))


@pytest.mark.parametrize(("kind", "sides"), [(nn.Conv2d, 2), (nn.Conv3d, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_autocast_they_are_torchs_own(
    kind: type[nn.Conv2d | nn.Conv3d], sides: int, dtype: torch.dtype
) -> None:
    own = network(kind).to(dtype)
    for convolution, channels in ((own.conv_in.conv, 3), (own.out[-1].conv, 64)):
        x = noisy(2, channels, *[4] * sides).to(dtype)
        expected = kind.forward(convolution, x)
        assert torch.equal(convolution(x), expected)


def test_the_first_has_the_gradients_of_fp32() -> None:
    first, x = network().conv_in.conv, noisy(2, 3, 8, 8).requires_grad_()
    (expected,) = torch.autograd.grad(first(x).square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(first(x).float().square().sum(), x)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 4, 4, 4)])
def test_a_unets_error_in_bf16_is_smaller_by_them(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    unet = build_unet("tiny", shape).eval()
    for parameter in unet.parameters():  # MONAI zeroes the last convolutions
        nn.init.normal_(parameter, std=0.05)
    names, x, t = list(unet.state_dict()), noisy(16, *shape), torch.full((16,), 300)
    kinds = {"conv_in": unet.conv_in.conv, "out": unet.out[-1].conv}
    errors = {}
    with torch.inference_mode():
        expected = unet(x, t)
        for ends in ("exact", "plain"):
            if ends == "plain":
                for convolution in kinds.values():
                    convolution.__class__ = type(convolution).__mro__[2]
            with torch.autocast("cpu", torch.bfloat16):
                found = unet(x, t)
            errors[ends] = (found.float() - expected).square().mean().sqrt().item()
    assert list(unet.state_dict()) == names
    assert errors["exact"] < 0.9 * errors["plain"], errors
