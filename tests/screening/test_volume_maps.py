"""Volumes are screened alike in every order of storage, and their maps lie where they do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from gaussian import gaussian_diffusion

from diffusion_ood import Detector
from diffusion_ood.detection.pixel_files import assess_pixels
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, ReconstructOptions
from diffusion_ood.screening.batch import consider
from diffusion_ood.screening.checks import check_maps
from diffusion_ood.screening.decisions import Decision
from diffusion_ood.screening.inputs import gather
from diffusion_ood.screening.run import screen

SIDES, LESION = (11, 14, 9), (6, 7, 5)
AFFINE = np.array([[-2, 0, 0, 3], [0, 0, 3, 1], [0, 1.5, 0, 2], [0, 0, 0, 1.0]])
OPTIONS = ImageOptions(
    is_grayscale=True, spatial_dimension=3, image_roi=(9, 8, 10), spacing=(2, 3, 1.5), image_size=8
)
ORIENTATIONS = [
    np.array([*zip(axes, signs, strict=True)])
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    diffusion = gaussian_diffusion(shape=(1, 8, 8, 8))
    diffusion.image_options = OPTIONS
    training = {"stored": {}, "low": 0.0, "high": 1.0, "clipped": 0.0, "spacing": [2.0, 3.0, 1.5]}
    diffusion.training = {"intensity": training}
    images = np.random.default_rng(0).normal(0.5, 0.2, (40, 9, 8, 10)).clip(0, 1)
    options = ReconstructOptions(methods=("denoising",), budget=3, scores=("mse",))
    return Detector.fit(diffusion, images.astype(np.float32), options=options, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 files of one anatomy with one lesion; in another its left and right are exchanged."""
    folder = tmp_path_factory.mktemp("scans")
    values = np.random.default_rng(1).normal(0.5, 0.1, SIDES).clip(0, 1).astype(np.float32)
    values[np.ix_(*[range(k - 1, k + 2) for k in LESION])] = 1
    image = nibabel.Nifti1Image(values, AFFINE)
    for number, turned in enumerate(ORIENTATIONS):
        nibabel.save(image.as_reoriented(turned), folder / f"{number:02}.nii")
    nibabel.save(nibabel.Nifti1Image(values[::-1], AFFINE), folder / "flipped.nii.gz")
    return folder


@pytest.fixture(scope="module")
def maps(
    detector: Detector, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Sequence[Decision]]:
    maps = tmp_path_factory.mktemp("maps")
    return maps, screen(detector, gather([folder]), None, maps=maps)


def test_48_orientations_have_one_score_and_a_flipped_anatomy_another(
    maps: tuple[Path, Sequence[Decision]],
) -> None:
    scores = [decision.score for decision in maps[1]]
    assert len(scores) == 49
    assert len(set(scores[:48])) == 1
    assert scores[48] != scores[0]


def test_a_map_has_the_grid_of_its_volume_and_lies_on_its_anatomy(
    maps: tuple[Path, Sequence[Decision]], folder: Path
) -> None:
    upright: list[npt.NDArray[np.float32]] = []
    for number in range(48):
        of = nibabel.load(folder / f"{number:02}.nii")
        found = nibabel.load(maps[0] / f"{number:02}.nii.gz")
        assert (found.shape, found.get_data_dtype()) == (of.shape, np.float32)
        np.testing.assert_array_equal(found.affine, of.affine)
        turned = nibabel.as_closest_canonical(found).get_fdata(dtype=np.float32)
        upright.append(turned)
        np.testing.assert_allclose(turned, upright[0], atol=1e-6)
        assert (maps[0] / f"{number:02}.nii.png").exists()
    stored = nibabel.load(maps[0] / "00.nii.gz").get_fdata()
    at = np.unravel_index(stored.argmax(), SIDES)
    assert np.abs(np.subtract(at, LESION)).max() <= 1
    assert 0.5 < stored.max() < 1
    seen = np.argwhere(stored > 0)  # `image_roi` counts to the right, front and head
    assert (seen.min(axis=0).tolist(), seen.max(axis=0).tolist()) == ([1, 2, 0], [9, 11, 7])
    assert (stored[1:10, 2:12, :8] > 0).all()


def test_maps_are_measured_by_masks_of_any_orientation(
    maps: tuple[Path, Sequence[Decision]], tmp_path: Path
) -> None:
    mask = np.zeros(SIDES, np.uint8)
    mask[np.ix_(*[range(k - 1, k + 2) for k in LESION])] = 1
    of_masks, of_maps = tmp_path / "masks", tmp_path / "maps"
    of_masks.mkdir()
    of_maps.mkdir()
    image = nibabel.Nifti1Image(mask, AFFINE)
    for number in (0, 13, 30):
        nibabel.save(image.as_reoriented(ORIENTATIONS[-number]), of_masks / f"{number:02}.nii.gz")
        name = f"{number:02}.nii.gz"
        (of_maps / name).write_bytes((maps[0] / name).read_bytes())
    turned = assess_pixels(of_maps, of_masks, n_bootstrap=0, seed=0)
    for number in (0, 13, 30):
        (of_masks / f"{number:02}.nii.gz").unlink()
        turned_mask = nibabel.as_closest_canonical(image).get_fdata()
        np.save(of_masks / f"{number:02}.nii.gz.npy", turned_mask)
    as_arrays = assess_pixels(of_maps, of_masks, n_bootstrap=0, seed=0)
    assert turned.metrics["auroc"].value > 0.9
    assert turned.metrics["auroc"].value == pytest.approx(as_arrays.metrics["auroc"].value)


def test_maps_of_one_name_are_refused(detector: Detector, folder: Path, tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).write_bytes((folder / "00.nii").read_bytes())
    with pytest.raises(UserError, match=r"`maps`: .*a\.nii"):
        check_maps(detector, gather([tmp_path]), tmp_path / "maps")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "b.nii.gz").symlink_to(folder / "flipped.nii.gz")
    with pytest.raises(UserError, match=r"`maps`: .*b\.nii"):
        check_maps(detector, gather([tmp_path / "maps" / "b.nii.gz"]), tmp_path / "maps")


def test_voxels_of_other_sizes_than_in_training_are_named(
    detector: Detector, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.full(SIDES, 0.5, np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 2, 3, 1.0])), tmp_path / "other.nii")
    items = gather([folder / "05.nii", tmp_path / "other.nii"])
    decisions = [Decision(item.name, score=1.0, p_value=0.5) for item in items]
    of_any_size = ImageOptions(is_grayscale=True, spatial_dimension=3)
    told = len(consider(detector, decisions, items).doubts)
    monkeypatch.setattr(detector.reader, "options", of_any_size)
    doubts = consider(detector, decisions, items).doubts
    assert len(doubts) == told + 1
    assert "other.nii" in doubts[-1]
