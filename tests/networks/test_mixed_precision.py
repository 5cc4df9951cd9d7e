"""The U-Net's last convolution: exact in bf16 too, with MONAI's weights and names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffusion_ood.networks.layers import replace_layers
from diffusion_ood.networks.unet import build_unet


class End(nn.Module):
    """A network whose last convolution is named as a U-Net's is."""

    def __init__(self, kind: type[nn.Conv2d | nn.Conv3d]) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Module())
        self.out[0].conv = kind(64, 3, 3, padding=1)


def noisy(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "sides"), [(nn.Conv2d, 2), (nn.Conv3d, 3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_that_of_fp32_and_draws_no_random_numbers(
    kind: type[nn.Conv2d | nn.Conv3d], sides: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    network = End(kind)
    original, state = network.out[0].conv, torch.get_rng_state()
    replace_layers(network)
    assert torch.equal(torch.get_rng_state(), state)
    own, h = network.out[0].conv, noisy(2, 64, *[4] * sides).to(dtype)
    assert isinstance(own, kind)
    assert own.weight is original.weight
    assert own.bias is original.bias
    with torch.inference_mode():
        expected = original(h.float())
        with torch.autocast("cpu", dtype):
            assert torch.equal(own(h), expected)
        assert torch.equal(own.double()(h.double()), original.double()(h.double()))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 4, 4, 4)])
def test_a_unets_error_in_bf16_is_smaller_by_it(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    unet = build_unet("tiny", shape).eval()
    for parameter in unet.parameters():  # MONAI zeroes the last convolution
        nn.init.normal_(parameter, std=0.05)
    names, x, t = list(unet.state_dict()), noisy(16, *shape), torch.full((16,), 300)
    with torch.inference_mode():
        expected = unet(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            exact = unet(x, t)
            own = unet.out[-1].conv
            plain = nn.Conv2d if len(shape) == 3 else nn.Conv3d
            unet.out[-1].conv = plain(own.in_channels, own.out_channels, 3, padding=1)
            unet.out[-1].conv.load_state_dict(own.state_dict())
            rounded = unet(x, t)
    assert list(unet.state_dict()) == names
    errors = [(found.float() - expected).square().mean().sqrt() for found in (exact, rounded)]
    assert exact.dtype == torch.float32
    assert errors[0] < 0.99 * errors[1], errors
