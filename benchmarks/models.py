"""The models that are measured."""

from __future__ import annotations

import lpips
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffusion_ood.model import Diffusion
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import DiffusionOptions, ImageOptions
from diffusion_ood.runtime.imports import without_deprecation_notices


def fresh_model(model_type: str, sides: tuple[int, ...] = (28, 28)) -> Diffusion:
    """A model of grey images of these sides with random weights: no time depends on them."""
    torch.manual_seed(0)
    options = DiffusionOptions(
        model_type=model_type,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
    )
    images = ImageOptions(is_grayscale=True, spatial_dimension=len(sides))
    model = Diffusion(options, (1, *sides), images)
    for parameter in model.network.parameters():  # MONAI zeroes the last convolutions
        torch.nn.init.normal_(parameter, std=0.02)
    model.network.eval()
    return model


def flops_per_call(model: Diffusion) -> float:
    """Floating-point operations of one network call on one image."""
    return flops(model.network, torch.zeros(1, *model.image_shape), torch.zeros(1))


def flops(module: nn.Module, *inputs: Tensor) -> float:
    """Floating-point operations of one call of a module."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return float(counter.get_total_flops())


def lpips_package() -> lpips.LPIPS:
    """The lpips package's own model, with AlexNet's weights."""
    features = find_alexnet_features()
    assert features is not None, "the bench needs the LPIPS weights"
    with without_deprecation_notices():
        model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    own = model.net.state_dict()
    for name in own:
        _, layer, kind = name.split(".")
        own[name] = features[f"features.{layer}.{kind}"]
    model.net.load_state_dict(own)
    return model
