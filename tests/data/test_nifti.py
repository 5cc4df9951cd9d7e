"""NIfTI: volumes, slices, and the scaling in the header."""

import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from diffusion_ood.data.readers import image_size, read_image, read_image_bytes
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

WIDE = (-5000.0, 5000.0)
SLICE = ImageOptions(is_grayscale=True, intensity_range=WIDE)
VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3, intensity_range=WIDE)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_slices_are_images(
    tmp_path: Path, suffix: str, kind: type[np.generic], shape: tuple[int, ...]
) -> None:
    values = np.arange(20, dtype=kind).reshape(shape)
    path = tmp_path / f"a{suffix}"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    image = read_image(path, SLICE)
    np.testing.assert_array_equal(image, values.reshape(1, 4, 5))
    assert image.dtype == (np.uint8 if kind == np.uint8 else np.float32)
    assert image_size(path, SLICE) == (4, 5)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(np.arange(20, dtype=np.int16).reshape(4, 5), np.eye(4))
    stored.header.set_slope_inter(2, -1024)
    nibabel.save(stored, tmp_path / "a.nii")
    raw = nibabel.load(tmp_path / "a.nii")
    assert (raw.dataobj.slope, raw.dataobj.inter) == (2, -1024)
    right = 2 * raw.dataobj.get_unscaled().reshape(1, 4, 5).astype(np.float32) - 1024
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii", SLICE), right)


@pytest.mark.parametrize(
    ("shape", "options"), [((4, 5, 2), SLICE), ((4, 5), VOLUME), ((4, 5, 6, 1, 1, 2), VOLUME)]
)
def test_other_sides_are_refused(
    tmp_path: Path, shape: tuple[int, ...], options: ImageOptions
) -> None:
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), path)
    for read in (image_size, read_image):
        with pytest.raises(UserError, match=r"a\.nii: .*4, 5"):
            read(path, options)


def test_the_header_of_a_pair_of_files_holds_no_voxels(tmp_path: Path) -> None:
    values = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    nibabel.save(nibabel.Nifti1Pair(values, np.eye(4)), tmp_path / "a.hdr")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"a\.nii: .*352"):
        read_image(tmp_path / "a.nii", VOLUME)


def test_scaled_values_keep_their_digits_or_are_refused(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(np.arange(20, dtype=np.int16).reshape(4, 5), np.eye(4))
    stored.header.set_slope_inter(5, 1e9)
    nibabel.save(stored, tmp_path / "a.nii")
    narrow = ImageOptions(is_grayscale=True, intensity_range=(1e9, 1e9 + 100))
    with pytest.raises(UserError, match=r"a\.nii: .*`intensity_range`"):
        read_image(tmp_path / "a.nii", narrow)


def test_affines_are_in_millimetres_whatever_the_unit_of_the_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (4, 5, 6), dtype=np.uint8)
    read = []
    for unit, size in (("mm", 2.0), ("meter", 0.002), ("micron", 2000.0), ("unknown", 2.0)):
        image = nibabel.Nifti1Image(values, np.diag([size, size, size, 1]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / f"{unit}.nii")
        read.append(read_image(tmp_path / f"{unit}.nii", replace(VOLUME, spacing=(1, 1, 2))))
    assert [image.shape for image in read] == [(1, 7, 9, 6)] * 4  # 6 mm, 8 mm and 10 mm


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(900, 900, 900, 1), (30, 30, 30, 30_000)])
def test_voxels_that_a_small_file_cannot_hold_take_no_memory(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = header.binaryblock + bytes(52)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    options = replace(SLICE, volume_channel=1 if shape[3] > 1 else None)
    tracemalloc.start()
    with pytest.raises(UserError):
        read_image(Path(f"{tmp_path / name}::axial=3"), options)
    with pytest.raises(UserError):
        image_size(tmp_path / name, replace(options, spatial_dimension=3))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("image_roi", [None, (2, 2, 2)])
@pytest.mark.parametrize("place", [-100, -6, None])
def test_a_packed_file_whose_bits_changed_is_refused(
    tmp_path: Path, place: int | None, image_roi: tuple[int, ...] | None
) -> None:
    path = tmp_path / "a.nii.gz"
    values = np.random.default_rng(0).integers(0, 255, (20, 20, 20), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    options = replace(VOLUME, image_roi=image_roi)
    read_image(path, options)
    data = bytearray(path.read_bytes())
    if place is None:
        del data[-4:]
    else:
        data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_image(path, options)
    with pytest.raises(UserError):
        read_image_bytes(bytes(data), path.name, options)
