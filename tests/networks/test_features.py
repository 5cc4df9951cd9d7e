"""AlexNet's features against its own layers, on weights drawn at random."""

import torch
from torch.nn import functional
from torchvision.models import alexnet

from diffusion_ood.networks.alexnet import LAYERS
from diffusion_ood.networks.features import AlexNetFeatures

STRIDES, PADDINGS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)


def test_features_are_the_mean_of_the_last_convolution():
    torch.manual_seed(0)
    state = alexnet().state_dict()
    weights = {name: value for name, value in state.items() if name.startswith("features.")}
    images = torch.rand(2, 1, 70, 64)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (images.repeat(1, 3, 1, 1) - mean) / std
    for k, layer in enumerate(LAYERS):
        weight, bias = (weights[f"features.{layer}.{part}"] for part in ("weight", "bias"))
        x = functional.conv2d(x, weight, bias, STRIDES[k], PADDINGS[k]).relu()
        if k < 2:
            x = functional.max_pool2d(x, 3, 2)
    with torch.inference_mode():
        found = AlexNetFeatures(weights)(images)
    torch.testing.assert_close(found, x.mean((2, 3)))
    assert found.shape == (2, 256)


def test_small_images_are_enlarged_and_grey_is_all_three_colours():
    torch.manual_seed(0)
    weights = {k: v for k, v in alexnet().state_dict().items() if k.startswith("features.")}
    network, images = AlexNetFeatures(weights), torch.rand(1, 1, 8, 8)
    large = functional.interpolate(images, scale_factor=8, mode="bilinear")
    with torch.inference_mode():
        torch.testing.assert_close(network(images), network(large.expand(-1, 3, -1, -1)))
