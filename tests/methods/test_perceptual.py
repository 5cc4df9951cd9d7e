"""LPIPS against the lpips package's own value, on any AlexNet weights."""

import pytest
import torch
from torch.nn import functional

from diffusion_ood.methods.scores.perceptual import PerceptualDifference
from diffusion_ood.networks.alexnet import LAYERS
from diffusion_ood.runtime.imports import without_deprecation_notices

with without_deprecation_notices():
    import lpips

SHAPES = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


@pytest.fixture(scope="module")
def weights():
    """Random tensors of AlexNet's shapes: the arithmetic is tested, not ImageNet."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in LAYERS:
        shape = SHAPES[layer]
        scale = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        tensors[f"features.{layer}.weight"] = scale * torch.randn(shape, generator=generator)
        tensors[f"features.{layer}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return tensors


@pytest.fixture(scope="module")
def score(weights):
    return PerceptualDifference(weights)


@pytest.fixture(scope="module")
def package(weights):
    """The lpips package itself, loaded by torchvision's names rather than by ours."""
    with without_deprecation_notices():
        model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    own = model.net.state_dict()
    for name in own:
        _, layer, kind = name.split(".")
        own[name] = weights[f"features.{layer}.{kind}"]
    model.net.load_state_dict(own)
    return model


def pair(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(3, 3, 64, 64), (2, 3, 32, 48), (2, 3, 33, 35)])
def test_colour_equals_the_package(score, package, shape):
    image, other = pair(*shape)
    expected = package(image, other, normalize=True).flatten()
    torch.testing.assert_close(score(score.reference(image), other), expected, rtol=1e-5, atol=0)


@torch.inference_mode()
def test_grey_is_repeated_to_three_channels(score, package):
    image, other = pair(3, 1, 40, 40)
    expected = package(image.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1), normalize=True).flatten()
    torch.testing.assert_close(score(score.reference(image), other), expected, rtol=1e-5, atol=0)


@torch.inference_mode()
def test_small_images_are_padded_with_black_to_32(score, package):
    image, other = pair(2, 1, 28, 28)
    image_32, other_32 = (
        functional.pad(x, (2, 2, 2, 2)).repeat(1, 3, 1, 1) for x in (image, other)
    )
    expected = package(image_32, other_32, normalize=True).flatten()
    torch.testing.assert_close(score(score.reference(image), other), expected, rtol=1e-5, atol=0)


@torch.inference_mode()
def test_a_volume_is_the_mean_over_slices_of_all_three_directions(score, package):
    image, other = pair(2, 1, 32, 34, 33)
    slices = []
    for axis in (2, 3, 4):
        for k in range(image.shape[axis]):
            two = [x.select(axis, k).repeat(1, 3, 1, 1) for x in (image, other)]
            missing = (34 - two[0].shape[3], 34 - two[0].shape[2])
            pad = [part for m in missing for part in (m // 2, m - m // 2)]
            slices.append(package(*(functional.pad(x, pad) for x in two), normalize=True).flatten())
    found = score(score.reference(image), other)
    torch.testing.assert_close(found, torch.stack(slices).mean(0), rtol=1e-4, atol=0)


@torch.inference_mode()
def test_a_reference_serves_rows_in_any_order(score):
    image, other = pair(3, 1, 32, 32)
    reference = score.reference(image)
    rows = torch.tensor([2, 0, 0, 1])
    found = score(tuple(part[rows] for part in reference), other[rows])
    torch.testing.assert_close(found, score(reference, other)[rows], rtol=1e-5, atol=1e-7)


@torch.inference_mode()
def test_an_image_is_at_no_distance_from_itself(score):
    image, other = pair(2, 3, 32, 32)
    assert score(score.reference(image), image).tolist() == [0.0, 0.0]
    assert (score(score.reference(image), other) > 0).all()
