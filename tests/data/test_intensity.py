"""Stored values: what a set is stored with, and what is doubtful about it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.intensity import Intensity, differences, doubts, measure_intensity
from diffusion_ood.data.splits import Split, read_split, write_split
from diffusion_ood.options import ImageOptions

GREY = ImageOptions(is_grayscale=True)
RAMP = np.linspace(0, 1, 2_500).reshape(50, 50)


def stored(tmp_path: Path, name: str, *arrays: np.ndarray) -> Split:
    names = [f"{name}_{i}.png" for i in range(len(arrays))]
    for file, array in zip(names, arrays, strict=True):
        Image.fromarray(array).save(tmp_path / file)
    write_split(tmp_path / f"{name}_test.csv", names)
    return read_split(tmp_path / f"{name}_test.csv")


def test_types_and_quantiles_are_of_the_stored_values(tmp_path: Path) -> None:
    bits8, bits12 = (RAMP * 255).astype(np.uint8), (RAMP * 4095).astype(np.uint16)
    found = measure_intensity(stored(tmp_path, "mixed", bits8, bits12), GREY)
    assert list(found.stored) == ["uint8", "uint16"]
    np.testing.assert_allclose(found.stored["uint8"], [0, 2, 127, 252, 255], atol=1)
    np.testing.assert_allclose(found.stored["uint16"], [0, 41, 2047, 4054, 4095], atol=5)
    assert found.clipped == 0
    assert Intensity(**found.as_json()) == found


def test_a_sliver_of_the_range_is_doubted(tmp_path: Path) -> None:
    split = stored(tmp_path, "twelve", (RAMP * 4095).astype(np.uint16))
    found = measure_intensity(split, GREY)
    assert found.high == pytest.approx(4095 / 65535, rel=1e-3)
    (sentence,) = doubts("training", found)
    assert "intensity_range" in sentence
    told = ImageOptions(is_grayscale=True, intensity_range=(0.0, 4095.0))
    assert not list(doubts("training", measure_intensity(split, told)))


def test_two_bits_that_are_not_used_are_doubted(tmp_path: Path) -> None:
    split = stored(tmp_path, "fourteen", (RAMP * (2**14 - 1)).astype(np.uint16))
    assert len(list(doubts("training", measure_intensity(split, GREY)))) == 1
    assert not list(doubts("other", measure_intensity(split, GREY), in_distribution=False))


def test_dark_bytes_and_sparse_masks_are_as_they_should_be(tmp_path: Path) -> None:
    usual = measure_intensity(stored(tmp_path, "usual", (RAMP * 255).astype(np.uint8)), GREY)
    dark = measure_intensity(stored(tmp_path, "dark", (RAMP * 40).astype(np.uint8)), GREY)
    assert not list(differences("dark", dark, "usual", usual))
    sparse = np.zeros((50, 50), np.uint8)
    sparse[20, 20:23] = 255
    assert not list(doubts("masks", measure_intensity(stored(tmp_path, "masks", sparse), GREY)))


def test_padding_far_below_the_range_is_not_clipped(tmp_path: Path) -> None:
    padded = np.where(np.arange(50)[:, None] < 35, -2000, RAMP * 1000).astype(np.float32)
    np.save(tmp_path / "padded.npy", padded)
    write_split(tmp_path / "padded_test.csv", ["padded.npy"])
    told = ImageOptions(is_grayscale=True, intensity_range=(-1000.0, 1000.0))
    assert measure_intensity(read_split(tmp_path / "padded_test.csv"), told).clipped == 0


def test_images_that_are_mostly_clipped_are_doubted(tmp_path: Path) -> None:
    split = stored(tmp_path, "bright", *[(200 + 40 * RAMP).astype(np.uint8)] * 2)
    narrow = ImageOptions(is_grayscale=True, intensity_range=(0.0, 205.0))
    found = measure_intensity(split, narrow)
    assert found.clipped == 1
    assert len(list(doubts("in", found))) == 1


def test_other_types_and_other_scales_are_told_apart(tmp_path: Path) -> None:
    bits8 = measure_intensity(stored(tmp_path, "a", (RAMP * 255).astype(np.uint8)), GREY)
    bits12 = measure_intensity(stored(tmp_path, "b", (RAMP * 4095).astype(np.uint16)), GREY)
    bits16 = measure_intensity(stored(tmp_path, "c", (RAMP * 65535).astype(np.uint16)), GREY)
    assert len(list(differences("a", bits8, "b", bits12))) == 2
    assert len(list(differences("b", bits12, "c", bits16))) == 1
    assert len(list(differences("a", bits8, "c", bits16))) == 1
    assert not list(differences("a", bits8, "a", bits8))


def test_a_large_set_is_sampled_evenly(tmp_path: Path) -> None:
    arrays = [np.full((2, 2), i, np.uint8) for i in range(200)]
    found = measure_intensity(stored(tmp_path, "many", *arrays), GREY)
    np.testing.assert_allclose(found.stored["uint8"][2], 99.5, atol=2)
    np.testing.assert_allclose([found.low, found.high], [0, 199 / 255], atol=0.02)
