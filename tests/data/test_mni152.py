"""MNI152 and Phantoms: heads of one template, none like another, and what is no head."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from diffusion_ood.data.sources import mni152, phantoms
from diffusion_ood.data.sources.base import ImageArray, RawLocation
from diffusion_ood.data.sources.prepare import prepare
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")


def heads(count: int, seed: int = 2) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mni152, "COUNTS", {"train": count, "val": 1, "test": 1})
        parts = mni152.SOURCE.read({}, seed)
    assert all(isinstance(part, ImageArray) for part in parts.values())
    return np.concatenate([part.pixels for part in parts.values()])


def test_heads_lie_within_their_grid_and_differ() -> None:
    volumes = heads(30).astype(float)
    assert volumes.shape == (32, 32, 32, 32)
    inside = volumes > 40
    assert 0.12 < inside.mean() < 0.3
    edge = np.ones((32, 32, 32), bool)
    edge[1:-1, 1:-1, 1:-1] = False
    assert inside[:, edge].mean() < 0.002  # no head is cut off
    flat = volumes.reshape(len(volumes), -1)
    off = ~np.eye(len(flat), dtype=bool)
    assert 0.6 < np.corrcoef(flat)[off].min() < np.corrcoef(flat)[off].max() < 0.97


@pytest.mark.parametrize("side", [32, 64])
def test_the_middle_of_the_grid_is_that_of_the_brain(side: int) -> None:
    middle = mni152.affine(side) @ [*[(side - 1) / 2] * 3, 1]
    np.testing.assert_allclose(middle, [*mni152.CENTRE, 1])
    assert np.diag(mni152.affine(side))[:3] == pytest.approx(mni152.FIELD_OF_VIEW / side)


def test_a_head_follows_from_the_seed() -> None:
    np.testing.assert_array_equal(heads(2), heads(2))
    assert (heads(2) != heads(2, seed=3)).any()


def test_the_right_is_longer_in_front_and_the_left_at_the_back() -> None:
    mean = heads(60).astype(float).mean(axis=0)
    right, left = mean[17:, :, 10:24].sum(axis=(0, 2)), mean[:15, :, 10:24].sum(axis=(0, 2))
    assert right[-8:].sum() > 1.1 * left[-8:].sum()
    assert left[:8].sum() > 1.1 * right[:8].sum()


def test_volumes_are_written_as_nifti_in_their_place(tmp_path: Path) -> None:
    location = RawLocation("Phantoms", tmp_path / "raw")
    splits = prepare(location, phantoms.SOURCE, tmp_path, seed=2, num_workers=0)
    split = read_split(splits["test"])
    assert len(split) == 100
    volume = nibabel.load(split.image_path(7))
    assert volume.shape == (32, 32, 32)
    assert volume.get_data_dtype() == np.uint8
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(volume.header.get_zooms(), 7)
    np.testing.assert_array_equal(volume.affine, mni152.affine(32))
    expected = phantoms.SOURCE.read({}, 2)["test"].pixels[7]
    np.testing.assert_array_equal(volume.dataobj, expected)


def test_phantoms_are_as_large_and_as_bright_as_heads() -> None:
    ours, theirs = phantoms.SOURCE.read({}, 2)["test"].pixels, heads(30)
    sizes = [(volumes > 40).mean() for volumes in (ours, theirs)]
    greys = [volumes[volumes > 40].mean() for volumes in (ours, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.35)
    assert greys[0] == pytest.approx(greys[1], rel=0.15)


def test_without_nilearn_the_set_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="nilearn"):
        mni152.SOURCE.read({}, 2)
