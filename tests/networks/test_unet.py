"""The U-Net's sizes."""

from __future__ import annotations

import pytest
import torch

from diffusion_ood.networks.unet import activation_values, build_unet
from diffusion_ood.registries import SIZES


@pytest.mark.parametrize(
    ("model_type", "sides"), [*[(name, (8, 16)) for name in SIZES], ("tiny", (8, 8, 16))]
)
def test_the_first_activation_has_so_many_values(model_type: str, sides: tuple[int, ...]) -> None:
    network = build_unet(model_type, (2, *sides))
    found: list[int] = []
    network.get_submodule("conv_in").register_forward_hook(
        lambda module, given, output: found.append(output[0].numel())
    )
    with torch.inference_mode():
        network(torch.zeros(1, 2, *sides), torch.zeros(1))
    assert found == [activation_values(model_type, (2, *sides))]
