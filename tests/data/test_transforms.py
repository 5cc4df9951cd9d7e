"""Transforms: ranges, crops, sizes, flips and augmentation, by their numbers."""

import numpy as np
import pytest
import torch
from monai.transforms.spatial.array import Affine

from diffusion_ood.data.transforms import (
    PLANES,
    ROTATION,
    TRANSLATION,
    ZOOM,
    augmentation,
    flip,
    mirrored,
    moved,
    patch,
    preparation,
    prepared_size,
    resize,
    small_moves,
    to_unit,
)
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions


def test_the_type_s_range_becomes_0_to_1() -> None:
    values = np.array([0, 51, 255], dtype=np.uint8)
    np.testing.assert_array_equal(
        to_unit(values, ImageOptions()), np.float32([0, 51, 255]) / np.float32(255)
    )
    sixteen = to_unit(np.array([0, 65_535], dtype=np.uint16), ImageOptions())
    np.testing.assert_array_equal(sixteen, [0, 1])


def test_values_outside_the_given_range_are_clipped() -> None:
    options = ImageOptions(intensity_range=(-100.0, 100.0))
    unit = to_unit(np.array([-200, -100, 0, 50, 300], dtype=np.float32), options)
    np.testing.assert_array_equal(unit, np.float32([0, 0, 0.5, 0.75, 1]))


def test_a_dark_image_stays_dark() -> None:
    dark = np.array([[[0, 51]]], dtype=np.uint8)
    assert preparation(ImageOptions())(dark).max() == pytest.approx(0.2)


def test_the_centre_is_cropped_and_minus_one_keeps_a_side() -> None:
    image = np.arange(30, dtype=np.uint8).reshape(1, 5, 6)
    options = ImageOptions(image_roi=(3, -1))
    cropped = preparation(options, keep_bytes=True)(image)
    assert type(cropped) is torch.Tensor
    np.testing.assert_array_equal(cropped, image[:, 1:4])
    assert prepared_size((5, 6), options) == (3, 6)
    with pytest.raises(UserError, match=r"`image_roi`: .*3 x 6.*2 x 6"):
        prepared_size((2, 6), options)


def test_shrinking_averages_areas() -> None:
    image = np.array([[[0, 0.5, 1, 1], [0.5, 1, 0, 0]]], dtype=np.float32).repeat(2, axis=1)
    shrunk = preparation(ImageOptions(image_size=2))(image)
    assert type(shrunk) is torch.Tensor
    np.testing.assert_allclose(shrunk[0], [[0.25, 1], [0.75, 0]])
    assert prepared_size((4, 4), ImageOptions(image_size=2)) == (2, 2)


def test_growing_interpolates_and_a_constant_stays_constant() -> None:
    np.testing.assert_allclose(
        resize(np.array([[[0, 1]]], dtype=np.float32), 4)[0, 0], [0, 0.25, 0.75, 1]
    )
    np.testing.assert_allclose(resize(np.full((1, 9, 3, 5), 0.3, np.float32), 6), 0.3, atol=1e-6)


def test_flips_turn_upside_down_and_mirror() -> None:
    image = torch.tensor([[[[1, 2], [3, 4]]]])
    flat, volume = ImageOptions(), ImageOptions(spatial_dimension=3)
    assert flip(image, "vflip", flat)[0, 0].tolist() == [[3, 4], [1, 2]]
    assert flip(image, "hflip", flat)[0, 0].tolist() == [[2, 1], [4, 3]]
    assert flip(image, None, flat) is image
    voxels = torch.arange(24).reshape(1, 1, 2, 3, 4)
    assert torch.equal(flip(voxels, "hflip", volume), voxels.flip(2))
    assert torch.equal(flip(voxels, "vflip", volume), voxels.flip(4))
    stored = ImageOptions(spatial_dimension=3, orientation="stored")
    assert torch.equal(flip(voxels, "hflip", stored), voxels.flip(4))


def test_some_volumes_are_mirrored_from_the_patient_s_left_to_right() -> None:
    volumes = torch.arange(16.0).reshape(2, 1, 2, 2, 2)
    found = mirrored(volumes, torch.tensor([True, False]), ImageOptions(spatial_dimension=3))
    assert torch.equal(found, torch.stack([volumes[0].flip(1), volumes[1]]))


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 8, 8, 8)])
def test_augmentation_moves_some_images_a_little(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.avg_pool2d(
        torch.rand((32, *shape), generator=generator).flatten(0, 1), 3, 1, 1
    ).view(32, *shape)
    moved = augmentation(shape, seed=1)(images, range(len(images)))
    assert type(moved) is torch.Tensor
    assert moved.shape == images.shape
    unmoved = sum(torch.equal(a, b) for a, b in zip(images, moved, strict=True))
    assert 5 < unmoved < 27
    assert (moved - images).abs().mean() < (images.flip(-1) - images).abs().mean() / 2
    assert moved.min() >= 0
    assert moved.max() <= 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 15, 20), (1, 12, 10, 9)])
def test_moves_are_those_of_monai(shape: tuple[int, ...]) -> None:
    """Whose rotations, shifts and zooms are applied to one image after the other."""
    sides, planes = shape[1:], len(PLANES[len(shape) - 1])
    drawn = 2 * np.random.default_rng(0).random((5, planes + 2 * len(sides))) - 1
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    found = moved(images, torch.from_numpy(small_moves(drawn, sides)).float())
    for image, own, row in zip(images, found, drawn, strict=True):
        angles, shifts, zooms = np.split(row, [planes, planes + len(sides)])
        affine = Affine(
            rotate_params=(ROTATION * angles).tolist(),
            translate_params=(TRANSLATION * shifts * sides).tolist(),
            scale_params=(1 + ZOOM * zooms).tolist(),
            padding_mode="border",
            image_only=True,
        )
        torch.testing.assert_close(own, torch.as_tensor(affine(image)), rtol=0, atol=1e-5)


def test_a_batch_may_have_no_images() -> None:
    assert augmentation((1, 9, 9), seed=1)(torch.empty(0, 1, 9, 9), []).shape == (0, 1, 9, 9)


def test_augmentation_repeats_the_border_instead_of_filling_with_black() -> None:
    assert augmentation((1, 9, 9), seed=0)(
        torch.ones(20, 1, 9, 9), range(20)
    ).min() == pytest.approx(1)


def test_augmentation_depends_on_seed_and_epoch_alone() -> None:
    images = torch.rand((16, 1, 9, 9), generator=torch.Generator().manual_seed(0))
    numbers = range(16)
    first = augmentation((1, 9, 9), seed=1, epoch=2)(images, numbers)
    assert torch.equal(first, augmentation((1, 9, 9), seed=1, epoch=2)(images, numbers))
    assert not torch.equal(first, augmentation((1, 9, 9), seed=1, epoch=3)(images, numbers))
    assert not torch.equal(first, augmentation((1, 9, 9), seed=2, epoch=2)(images, numbers))


def test_augmentation_of_an_image_does_not_depend_on_its_batch() -> None:
    images = torch.rand((16, 1, 9, 9), generator=torch.Generator().manual_seed(0))
    augment = augmentation((1, 9, 9), seed=1)
    whole = augment(images, range(16))
    parts = torch.cat(
        [augment(images[1::2], range(1, 16, 2)), augment(images[::2], range(0, 16, 2))]
    )
    assert torch.equal(parts, torch.cat([whole[1::2], whole[::2]]))


def test_a_patch_is_half_of_each_side_at_its_place() -> None:
    image, other = torch.zeros(1, 4, 7), torch.ones(1, 4, 7)
    assert patch(image, other, (0.0, 1.0))[0].tolist() == [
        [0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1],
        [0] * 7,
        [0] * 7,
    ]
    assert patch(image, other, (1.0, 0.5))[0, 2:, 2:5].tolist() == [[1, 1, 1]] * 2
    assert patch(image, other, (0.3, 0.7)).sum() == 2 * 3
    assert image.sum() == 0
    assert patch(torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4), (0, 0, 1)).sum() == 2 * 2**3
