"""Faults of acquisition: each changes images, more at a higher severity, and by its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import AdjustContrast, RandBiasField

from diffusion_ood.data.faults import geometry, intensity, kspace
from diffusion_ood.data.faults.base import (
    SEVERITIES,
    Image,
    generator,
    object_region,
    with_fault,
)
from diffusion_ood.registries import FAULTS

UNGRADED = {"flip_lr", "inversion", "rotation", "swapped_quarters"}
GRADED = sorted(set(FAULTS) - UNGRADED)
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 30, 41), (3, 29, 33), (1, 12, 16, 9)]


def picture(shape: tuple[int, ...], seed: int = 0) -> Image:
    """Smooth blobs, different in every channel, on a dark ground, from 0 to 1."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*[np.linspace(-1, 1, side) for side in shape[1:]], indexing="ij")
    image = np.zeros(shape)
    for _ in range(6):
        middle = rng.uniform(-0.6, 0.6, len(grids))
        distance = sum((grid - at) ** 2 for grid, at in zip(grids, middle, strict=True))
        gains = rng.uniform(0.3, 1, (shape[0], *[1] * len(grids)))
        image += gains * np.exp(-distance / rng.uniform(0.02, 0.1))
    return image / image.max()


def faulty(name: str, image: Image, severity: int, key: str = "a", seed: int = 2) -> Image:
    other = picture(image.shape, seed=99)
    return with_fault(FAULTS[name], image, severity, generator(seed, key), other)


def distance(one: Image, other: Image) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_an_image_within_its_range_and_shape(
    name: str, shape: tuple[int, ...]
) -> None:
    image = picture(shape)
    before = image.copy()
    for severity in SEVERITIES:
        changed = faulty(name, image, severity)
        assert changed.shape == shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert np.abs(changed - image).max() > 1 / 255
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", GRADED)
def test_the_distance_from_the_originals_rises_with_the_severity(name: str) -> None:
    images = [picture((1, 40, 40), seed) for seed in range(30)]
    means = [
        np.mean([distance(faulty(name, image, s, str(i)), image) for i, image in enumerate(images)])
        for s in SEVERITIES
    ]
    assert (np.diff(means) > 0).all(), means
    assert means[4] > 1.9 * means[0], means


@pytest.mark.parametrize("name", sorted(UNGRADED))
def test_these_faults_are_equal_at_every_severity(name: str) -> None:
    image = picture((1, 40, 40))
    for severity in SEVERITIES[1:]:
        np.testing.assert_array_equal(faulty(name, image, severity), faulty(name, image, 1))


@pytest.mark.parametrize("name", sorted(set(GRADED) - {"blur", "contrast", "resampling"}))
def test_seed_and_key_decide_what_is_drawn(name: str) -> None:
    image = picture((1, 40, 40))
    first = faulty(name, image, 3)
    np.testing.assert_array_equal(first, faulty(name, image, 3))
    others = [faulty(name, image, 3, key, seed) for key in "abcdef" for seed in (2, 3)]
    assert any((first != other).any() for other in others)


def test_generators_are_of_seed_and_key_alone() -> None:
    drawn = {generator(seed, key).random() for seed in (0, 1) for key in ("a", "b", "ä")}
    assert len(drawn) == 6
    assert generator(2, "x/y.png").random() == generator(2, "x/y.png").random()


def test_a_box_is_zeros_of_its_share_and_the_rest_stays() -> None:
    image = picture((3, 40, 60)) * 0.9 + 0.1
    for severity, share in zip(SEVERITIES, geometry.BOX, strict=True):
        changed = faulty("box", image, severity)
        zeros = (changed == 0).all(axis=0)
        rows, columns = np.nonzero(zeros.any(axis=1))[0], np.nonzero(zeros.any(axis=0))[0]
        assert (len(rows), len(columns)) == (round(share * 40), round(share * 60))
        assert zeros[np.ix_(rows, columns)].all()
        np.testing.assert_array_equal(changed[:, ~zeros], image[:, ~zeros])


def test_a_square_is_turned_by_90_degrees() -> None:
    image = picture((3, 31, 31))
    np.testing.assert_array_equal(faulty("rotation", image, 3), np.rot90(image, axes=(1, 2)))


def test_of_sides_that_differ_the_middle_is_turned() -> None:
    image = picture((1, 30, 50))
    changed = faulty("rotation", image, 3)
    right = np.rot90(image, axes=(1, 2))[:, 10:40]
    np.testing.assert_array_equal(changed[:, :, 10:40], right)
    edge = np.concatenate([image[0, 0], image[0, -1], image[0, 1:-1, 0], image[0, 1:-1, -1]])
    assert (changed[:, :, :10] == np.median(edge)).all()


@pytest.mark.parametrize("name", ["flip_lr", "inversion", "swapped_quarters"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_these_faults_undo_themselves(name: str, shape: tuple[int, ...]) -> None:
    image = picture(shape)
    np.testing.assert_allclose(faulty(name, faulty(name, image, 3), 3), image, atol=1e-15)


def test_left_is_right_of_a_volumes_first_side_and_a_pictures_last() -> None:
    volume = picture((1, 6, 7, 5))
    np.testing.assert_array_equal(faulty("flip_lr", volume, 3), volume[:, ::-1])
    image = picture((3, 6, 7))
    np.testing.assert_array_equal(faulty("flip_lr", image, 3), image[..., ::-1])


def test_a_missing_slab_is_neighbouring_slices_of_zeros_through_the_object() -> None:
    volume = 0.9 * picture((1, 30, 20, 50)) + 0.1
    for severity, share in zip(SEVERITIES, geometry.SLAB, strict=True):
        changed = faulty("missing_slab", volume, severity)
        (zeros,) = np.nonzero((changed == 0).all(axis=(0, 1, 2)))
        assert len(zeros) == np.ptp(zeros) + 1 == round(share * 50)
        np.testing.assert_array_equal(np.delete(changed, zeros, -1), np.delete(volume, zeros, -1))
        assert object_region(volume)[..., zeros].any()


def test_quarters_are_those_across() -> None:
    image = picture((1, 30, 40))
    changed = faulty("swapped_quarters", image, 3)
    np.testing.assert_array_equal(changed, np.roll(image, (15, 20), axis=(1, 2)))


def test_a_shift_moves_by_its_share() -> None:
    image = np.zeros((1, 50, 50))
    image[0, 25, 25] = 1
    for severity, share in zip(SEVERITIES, geometry.SHIFT, strict=True):
        ((_, row, column),) = np.argwhere(faulty("shift", image, severity))
        assert max(abs(row - 25), abs(column - 25)) == round(share * 50)


def test_a_cropped_object_loses_its_share_at_one_side() -> None:
    image = np.full((1, 60, 60), 0.2)
    image[0, 10:50, 10:50] = 1
    for severity, share in zip(SEVERITIES, geometry.CROPPED, strict=True):
        changed = faulty("cropped", image, severity)
        assert (changed == 1).sum() == 40 * (40 - round(share * 40))
        assert set(np.unique(changed)) == {0.2, 1}


def test_a_patch_is_of_the_other_image_and_of_its_share() -> None:
    image = picture((1, 40, 40))
    other = 0.25 + 0.5 * picture((1, 40, 40), 5)
    for severity, share in zip(SEVERITIES, geometry.FOREIGN_PATCH, strict=True):
        changed = with_fault(FAULTS["foreign_patch"], image, severity, generator(2, "a"), other)
        values = changed[changed != image]
        assert len(values) == round(share * 40) ** 2
        assert np.isin(values, other).all()


@pytest.mark.parametrize("shape", [(3, 20, 35), (1, 8, 8), (1, 60, 60)])
def test_a_patch_may_come_from_other_sides_and_channels(shape: tuple[int, ...]) -> None:
    image = picture((1, 30, 30))
    for severity in SEVERITIES:
        rng = generator(2, "a")
        changed = with_fault(FAULTS["foreign_patch"], image, severity, rng, picture(shape, 7))
        assert changed.shape == image.shape
        assert (changed != image).any()


def test_what_is_smaller_than_the_object_is_not_taken_for_it() -> None:
    image = np.zeros((1, 60, 60))
    image[0, 10:50, 10:50] = 0.5
    image[0, 55, :] = 1  # a table
    for key in "abcdefgh":
        assert (faulty("box", image, 1, key)[0, 10:50, 10:50] == 0).any()
        assert (faulty("cropped", image, 1, key)[0, 10:50, 10:50] == 0).any()


def test_noise_has_its_standard_deviation() -> None:
    image = np.full((3, 100, 100), 0.5)
    for severity, sigma in zip(SEVERITIES[:3], intensity.NOISE[:3], strict=True):
        changed = faulty("noise", image, severity)
        assert (changed - image).std() == pytest.approx(sigma, rel=0.02)


def test_contrast_keeps_the_mean_and_its_share_of_the_spread() -> None:
    image = picture((1, 40, 40))
    for severity, share in zip(SEVERITIES, intensity.CONTRAST, strict=True):
        changed = faulty("contrast", image, severity)
        assert changed.mean() == pytest.approx(image.mean())
        assert changed.std() == pytest.approx(share * image.std())


def test_a_wrong_window_has_its_slope() -> None:
    image = np.linspace(0, 1, 900).reshape(1, 30, 30)
    for severity, width in zip(SEVERITIES, intensity.WINDOW, strict=True):
        changed = faulty("wrong_window", image, severity).ravel()
        inner = (changed[1:] < 1) & (changed[:-1] > 0)
        np.testing.assert_allclose(np.diff(changed)[inner] * 899, 1 / width)
        assert inner.mean() == pytest.approx(width, abs=0.01)


def test_gamma_is_monais() -> None:
    image = picture((1, 40, 40))
    image = (image - image.min()) / np.ptp(image)  # over which MONAI takes the power
    for severity, power in zip(SEVERITIES, intensity.GAMMA, strict=True):
        changed = {key: faulty("gamma", image, severity, key) for key in "abcdefgh"}
        expected = [np.asarray(AdjustContrast(p)(image)) for p in (power, 1 / power)]
        near = [[np.allclose(c, e, atol=1e-5) for e in expected] for c in changed.values()]
        assert np.any(near, axis=1).all()
        assert np.any(near, axis=0).all()  # both directions are drawn


def test_a_bias_field_is_monais() -> None:
    image = np.full((1, 10, 12, 8), 1e-3)
    weights = generator(2, "a").normal(size=(4, 4, 4))
    degrees = np.argwhere(np.indices(weights.shape).sum(axis=0) <= 3)  # in MONAI's order
    chosen = weights[tuple(degrees.T)]
    chosen[0] = 0
    for severity, strength in zip(SEVERITIES, intensity.BIAS_FIELD, strict=True):
        field = np.log(faulty("bias_field", image, severity) / image)
        assert np.abs(field).max() == pytest.approx(strength)
        theirs = RandBiasField(degree=3)._generate_random_field((10, 12, 8), 3, chosen)
        np.testing.assert_allclose(field[0], theirs * strength / np.abs(theirs).max(), atol=1e-5)


def test_a_spike_is_one_point_of_k_space_and_its_mirror() -> None:
    image = np.full((1, 30, 44), 0.5)
    for severity, strength in zip(SEVERITIES, kspace.SPIKE, strict=True):
        spectrum = np.abs(np.fft.fft2(faulty("spike", image, severity)[0] - 0.5)) / image.size
        assert np.sort(spectrum.ravel())[-2:] == pytest.approx(strength / 2)
        assert (spectrum > 1e-9).sum() == 2


def test_ghosts_are_copies_along_one_axis() -> None:
    image = np.zeros((1, 48, 48))
    image[0, 20:24, 20:24] = 1
    steps = set()
    for key in "abcdefghijkl":
        for severity, loss in zip(SEVERITIES, kspace.GHOSTING, strict=True):
            changed = faulty("ghosting", image, severity, key)
            copies = round(changed[changed > 1e-9].size / 16)
            steps.add(copies)
            values = np.full(copies, loss / copies)
            values[-1] = 1 - loss + loss / copies
            found = np.sort(changed[changed > 1e-9])[::16]
            np.testing.assert_allclose(found, np.sort(values), atol=1e-12)
    assert steps == {2, 3, 4}


def test_motion_leaves_what_is_even_along_the_phase_axis_in_place() -> None:
    image = np.full((1, 40, 40), 0.4)
    np.testing.assert_allclose(faulty("motion", image, 5), image, atol=1e-12)


def test_resampling_leaves_blocks_of_its_factor() -> None:
    image = picture((1, 60, 60))
    for severity, factor in zip(SEVERITIES, intensity.RESAMPLING, strict=True):
        changed = faulty("resampling", image, severity)[0]
        runs = 1 + (np.abs(np.diff(changed, axis=0)).max(axis=1) > 0).sum()
        assert runs == round(60 / factor)


@pytest.mark.parametrize("name", FAULTS)
def test_a_flat_image_is_no_mistake(name: str) -> None:
    for level in (0.0, 0.3, 1 / 3 + 1e-16, 1.0):
        assert np.isfinite(faulty(name, np.full((1, 28, 28), level), 5)).all()
