"""The noise of a volume's score is the volume's own, in whichever order its voxels are stored."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.options import ImageOptions, LoadingOptions
from diffusion_ood.scoring.work import OpenSet

NAMES = ["a.nii", "turned.nii", "mirrored.nii"]
CPU = torch.device("cpu")


@pytest.fixture
def split(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).random((8, 8, 8), np.float32)
    image = nibabel.Nifti1Image(values, np.eye(4))
    nibabel.save(image, tmp_path / NAMES[0])
    nibabel.save(image.as_reoriented([[2, -1], [0, 1], [1, 1]]), tmp_path / NAMES[1])
    nibabel.save(nibabel.Nifti1Image(values[::-1], np.eye(4)), tmp_path / NAMES[2])
    write_split(tmp_path / "volumes.csv", NAMES)
    return tmp_path / "volumes.csv"


@pytest.mark.parametrize(
    ("options", "step"),
    [
        (ImageOptions(is_grayscale=True, spatial_dimension=3), 1),
        (ImageOptions(is_grayscale=True, slices="axial"), 8),
    ],
)
def test_noise_follows_the_anatomy_of_volumes_and_of_slices(
    split: Path, options: ImageOptions, step: int
) -> None:
    one = _opened(split, options)
    batch = one.batch([0, step, 2 * step], one.images.batch([0, step, 2 * step]), CPU)
    assert batch.keys[0] == batch.keys[1] != batch.keys[2]
    assert len(set(one.keys)) == len(one.keys)


def test_noise_follows_the_name_of_volumes_that_are_read_as_stored(split: Path) -> None:
    options = ImageOptions(is_grayscale=True, spatial_dimension=3, orientation="stored")
    one = _opened(split, options)
    assert one.batch([0, 1, 2], one.images.batch([0, 1, 2]), CPU).keys == NAMES


def _opened(split: Path, options: ImageOptions) -> OpenSet:
    loading = LoadingOptions(num_workers=0, cache_data=False)
    return OpenSet("volumes", "in", open_images(read_split(split), options, loading), None, 0)
