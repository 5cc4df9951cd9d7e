"""Volumes as a model sees them: whatever the storage order, one anatomy is one array."""

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import CenterSpatialCrop
from monai.transforms.spatial.array import Orientation, Spacing
from scipy.spatial.transform import Rotation

from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.intensity import differences, measure_intensity
from diffusion_ood.data.places import PLANES, Place
from diffusion_ood.data.readers import image_size, read_image, read_image_bytes, spacing_of
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.data.volumes import grid_of, open_volume, oriented
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

SIDES = (11, 14, 9)
MILLIMETRES = np.array([1, 1.5, 2.5])
ORIENTATIONS = [
    np.array([*zip(axes, signs, strict=True)])
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def oblique(*degrees: float) -> npt.NDArray[np.float64]:
    """An affine near RAS, turned about each axis."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * MILLIMETRES
    affine[:3, 3] = -5, 3, 8
    return affine


AFFINE = oblique(5, -10, 15)


def options(**values: Any) -> ImageOptions:
    return ImageOptions(is_grayscale=True, spatial_dimension=3, **values)


def saved(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random(SIDES, np.float32)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, values: npt.NDArray[np.float32]) -> list[Path]:
    """One anatomy in every order of storage; the first is RAS."""
    folder = tmp_path_factory.mktemp("stored")
    image = nibabel.Nifti1Image(values, AFFINE)
    paths = [folder / f"{number}.nii" for number in range(48)]
    for path, turned in zip(paths, ORIENTATIONS, strict=True):
        nibabel.save(image.as_reoriented(turned), path)
    return paths


OPTIONS = {
    "whole": options(),
    "an odd remainder": options(image_roi=(5, 8, 4)),
    "resampled": options(spacing=(1.7, 1.2, 2)),
    "resampled and cropped": options(spacing=(0.7, 2.2, 3), image_roi=(4, 7, -1)),
    "percentiles": options(intensity_percentiles=(1, 99)),
    "resized": options(image_roi=(-1, 9, -1), image_size=8),
}


@pytest.mark.parametrize("asked", OPTIONS.values(), ids=OPTIONS)
def test_48_orientations_of_one_anatomy_are_one_image(
    stored: list[Path], asked: ImageOptions
) -> None:
    first = read_image(stored[0], asked)
    shape = (1, 8, 8, 8) if asked.image_size else first.shape
    reader = Reader(asked, shape)
    image = reader.read(stored[0])
    for path in stored[1:]:
        assert image_size(path, asked) == first.shape[1:]
        np.testing.assert_array_equal(read_image(path, asked), first)
        assert torch.equal(reader.read(path), image)
        content = reader.content(path.read_bytes(), path.name, 10_000)
        assert torch.equal(content, image)


def test_a_flipped_anatomy_is_another_image(
    tmp_path: Path, values: npt.NDArray[np.float32]
) -> None:
    upright = read_image(saved(tmp_path / "a.nii", values), options())
    flipped = read_image(saved(tmp_path / "b.nii", values[::-1]), options())
    np.testing.assert_array_equal(flipped, upright[:, ::-1])
    assert not np.array_equal(flipped, upright)


def test_stored_is_as_it_lies(stored: list[Path], values: npt.NDArray[np.float32]) -> None:
    for path in stored[:48:7]:
        raw = nibabel.load(path).get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(read_image(path, options(orientation="stored"))[0], raw)


def test_axes_lead_to_right_front_and_head(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6), np.uint8)
    values[0, 1, 5] = 255  # of PIL, this is the patient's left, near the front, at the foot
    affine = np.array([[0, 0, -1, 5], [-1, 0, 0, 3], [0, -1, 0, 4], [0, 0, 0, 1.0]])
    image = read_image(saved(tmp_path / "a.nii", values, affine), options())
    assert image.shape == (1, 6, 4, 5)
    assert np.argwhere(image[0]).tolist() == [[0, 3, 3]]


@pytest.mark.parametrize("spacing", [(1.7, 1.2, 2.0), (0.6, 3.1, 4.0), (1.0, 1.5, 2.5)])
def test_resampling_is_monais(
    stored: list[Path], values: npt.NDArray[np.float32], spacing: tuple[float, ...]
) -> None:
    """Of MONAI 1.5.2: linear, first voxels on each other, borders repeated."""
    image = MetaTensor(torch.from_numpy(values)[None], torch.from_numpy(AFFINE))
    there = Spacing(spacing, mode="bilinear", padding_mode="border")(image)
    found = read_image(stored[30], options(spacing=spacing))
    np.testing.assert_allclose(found, there.numpy(), atol=2e-5)
    part = tuple(side // 2 for side in found.shape[1:])
    cropped = read_image(stored[30], options(spacing=spacing, image_roi=part))
    expected = CenterSpatialCrop(part)(torch.from_numpy(found))
    np.testing.assert_allclose(cropped, torch.as_tensor(expected).numpy(), atol=1e-6)


def test_turning_is_monais(stored: list[Path]) -> None:
    for path in stored[1:48:9]:
        raw = nibabel.load(path)
        image = MetaTensor(raw.get_fdata(dtype=np.float32)[None], torch.from_numpy(raw.affine))
        expected = Orientation("RAS", labels=None)(image)
        np.testing.assert_array_equal(read_image(path, options()), expected.numpy())


def test_bytes_stay_bytes_when_resampled(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.full(SIDES, 100, np.uint8))
    found = read_image(path, options(spacing=(1.3, 1.3, 1.3)))
    assert found.dtype == np.uint8
    assert set(found.ravel().tolist()) == {100}


@pytest.mark.parametrize("turned", ORIENTATIONS[::5])
def test_nothing_but_the_crop_is_read(
    values: npt.NDArray[np.float32], turned: npt.NDArray[np.int_]
) -> None:
    image = nibabel.Nifti1Image(values, AFFINE).as_reoriented(turned)
    boxes = []

    def load(box: tuple[slice, ...]) -> npt.NDArray[Any]:
        boxes.append(image.get_fdata()[box].size)
        return np.asarray(image.get_fdata()[box])

    volume = Volume(image.shape, image.affine, load)
    assert oriented(volume, options(image_roi=(3, 4, 5))).shape == (1, 3, 4, 5)
    assert boxes == [60]


def test_of_an_unpacked_file_only_the_crop_is_read(tmp_path: Path) -> None:
    """Behind the crop the file may end."""
    path = saved(tmp_path / "a.nii", np.full((8, 8, 8), 7, np.uint8), np.eye(4))
    path.write_bytes(path.read_bytes()[: 352 + 6 * 64])
    assert (read_image(path, options(image_roi=(4, 4, 4))) == 7).all()
    with pytest.raises(UserError, match=r"a\.nii"):
        read_image(path, options())


def test_a_channel_has_to_be_named(tmp_path: Path, values: npt.NDArray[np.float32]) -> None:
    path = saved(tmp_path / "a.nii.gz", np.stack([values, values / 2, values / 4], -1))
    for read in (image_size, read_image):
        with pytest.raises(UserError, match=r"a\.nii\.gz: .*`volume_channel`.*3"):
            read(path, options())
        with pytest.raises(UserError, match=r"a\.nii\.gz: .*`volume_channel`.*3"):
            read(path, options(volume_channel=3))
    asked = options(volume_channel=2, image_roi=(4, 4, 4))
    np.testing.assert_array_equal(read_image(path, asked)[0], values[3:7, 5:9, 2:6] / 4)
    alone = saved(tmp_path / "b.nii", values[..., None])
    np.testing.assert_array_equal(read_image(alone, options())[0], values)
    np.testing.assert_array_equal(read_image(alone, options(volume_channel=0))[0], values)


def sheared() -> npt.NDArray[np.float64]:
    affine = np.diag([1.0, 1.5, 2.5, 1.0])
    affine[1, 2] = 0.3
    return affine


@pytest.mark.parametrize(
    "affine", [sheared(), np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan)], ids=str
)
def test_an_affine_that_does_not_say_where_voxels_lie_is_refused(
    tmp_path: Path, values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]
) -> None:
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(values, None)
    image.header["sform_code"] = 1
    for row, name in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=False):
        image.header[name] = row
    image.to_filename(path)
    for read in (image_size, read_image):
        with pytest.raises(UserError, match=r"a\.nii: .*expected"):
            read(path, options())
    assert spacing_of(path, options()) is None
    np.testing.assert_array_equal(read_image(path, options(orientation="stored"))[0], values)


def test_nan_is_refused_where_it_is_read(tmp_path: Path, values: npt.NDArray[np.float32]) -> None:
    damaged = values.copy()
    damaged[0, 0, 0] = np.nan
    path = saved(tmp_path / "a.nii", damaged)
    for asked in (options(), options(intensity_percentiles=(1, 99)), options(spacing=(2, 2, 2))):
        with pytest.raises(UserError, match=r"a\.nii: .*not finite"):
            read_image(path, asked)
    assert np.isfinite(read_image(path, options(image_roi=(4, 4, 4)))).all()


def test_a_crop_beyond_the_volume_is_refused(stored: list[Path]) -> None:
    for read in (image_size, read_image):
        with pytest.raises(UserError, match=r"7\.nii: .*`image_roi`.*11 x 14 x 9"):
            read(stored[7], options(image_roi=(11, 15, 9)))


def test_percentiles_of_the_values_above_0_become_0_and_1(tmp_path: Path) -> None:
    values = np.arange(-100, 1001, dtype=np.int16).reshape(1101, 1, 1) * np.ones((1, 2, 3))
    path = saved(tmp_path / "a.nii", values.astype(np.int16), np.eye(4))
    found = read_image(path, options(intensity_percentiles=(10, 90)))
    low, high = np.percentile(np.arange(1, 1001), (10, 90))
    expected = np.clip((values - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert found.dtype == np.float32
    empty = saved(tmp_path / "b.nii", np.zeros(SIDES, np.int16))
    with pytest.raises(UserError, match=r"b\.nii: .*`intensity_percentiles`"):
        read_image(empty, options(intensity_percentiles=(10, 90)))


@pytest.mark.parametrize("plane", PLANES)
def test_slices_are_equal_in_all_orientations_and_upright(
    stored: list[Path], values: npt.NDArray[np.float32], plane: str
) -> None:
    asked = ImageOptions(is_grayscale=True, intensity_percentiles=(0, 100))
    axis = PLANES.index(plane)
    unit = (values - values.min()) / (values.max() - values.min())
    expected = unit.take(6, axis)[::-1, ::-1].T  # rows lead to the back or foot, columns left
    for path in stored:
        place = Path(f"{path}::{plane}=6")
        assert image_size(place, asked) == expected.shape
        np.testing.assert_allclose(read_image(place, asked)[0], expected, atol=1e-6)


def test_slices_are_resampled_within_and_never_mixed(
    stored: list[Path], values: npt.NDArray[np.float32]
) -> None:
    whole = ImageOptions(is_grayscale=True, spacing=(1.7, 1.2, 2))
    found = read_image(Path(f"{stored[20]}::axial=5"), whole)
    volume = read_image(stored[20], options(spacing=(1.7, 1.2, 2.5)))
    np.testing.assert_allclose(found[0], volume[0, :, :, 5][::-1, ::-1].T, atol=1e-5)
    with pytest.raises(UserError, match=r"0\.nii::axial=9: .*9 axial"):
        read_image(Path(f"{stored[0]}::axial=9"), whole)


@pytest.mark.parametrize("asked", [OPTIONS["an odd remainder"], OPTIONS["whole"]])
def test_what_is_restored_lies_where_it_was(stored: list[Path], asked: ImageOptions) -> None:
    for path in stored:
        raw = nibabel.load(path).get_fdata(dtype=np.float32)
        grid = grid_of(open_volume(Place(path)), asked)
        back = grid.restored(read_image(path, asked)[0])
        seen = back != 0
        assert seen.sum() == np.prod(grid.sides)
        np.testing.assert_array_equal(back[seen], raw[seen])


def test_what_was_resampled_is_restored_to_half_a_voxel(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 30, dtype=np.float32)
    values = np.ones((30, 8, 8), np.float32) * ramp[:, None, None]
    path = saved(tmp_path / "a.nii", values, np.diag([-1, 1, 1, 1]))
    asked = options(spacing=(2, 1, 0.5), image_roi=(8, -1, -1))
    back = grid_of(open_volume(Place(path)), asked).restored(read_image(path, asked)[0])
    assert back.shape == values.shape
    inside = back[:, 4, 4] > 0
    assert inside.sum() == 17  # the middle of two is half inside, at both ends
    np.testing.assert_allclose(back[inside][1:-1], values[inside][1:-1], atol=1e-6)


def test_sets_with_voxels_of_other_sizes_are_named(tmp_path: Path) -> None:
    def of(name: str, affine: npt.NDArray[np.float64], asked: ImageOptions) -> Any:
        for number in range(3):
            saved(tmp_path / f"{name}{number}.nii", np.full((4, 4, 4), 9, np.uint8), affine)
        split = tmp_path / f"{name}_test.csv"
        write_split(split, [f"{name}{number}.nii" for number in range(3)])
        return measure_intensity(read_split(split), asked)

    fine = of("fine", np.diag([1, 1, 2.0, 1]), options())
    turned = of("turned", np.diag([1, 1, 2.0, 1])[[2, 0, 1, 3]], options())
    close = of("close", np.diag([1.15, 1, 1.8, 1]), options())
    coarse = of("coarse", np.diag([1, 1.3, 2.0, 1]), options())
    assert (fine.spacing, turned.spacing) == ([1, 1, 2], [2, 1, 1])
    assert len(list(differences("coarse", coarse, "fine", fine))) == 1
    assert len(list(differences("turned", turned, "fine", fine))) == 1
    assert not list(differences("close", close, "fine", fine))
    assert of("same", np.diag([3, 3, 3.0, 1]), options(spacing=(1, 1, 1))).spacing is None


def test_content_of_more_voxels_than_allowed_is_refused(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.nii.gz", np.ones(SIDES, np.uint8)).read_bytes()
    assert read_image_bytes(data, "a.nii.gz", options(), 1386).shape == (1, *SIDES)
    for asked in (options(), options(image_roi=(2, 2, 2))):
        with pytest.raises(UserError, match=r"a\.nii\.gz: .*1386"):
            read_image_bytes(data, "a.nii.gz", asked, 1385)
