"""Images that are in memory: the same pixels and the same sentences as of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.readers import read_image, read_image_bytes
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

GREY = ImageOptions(is_grayscale=True)
VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3)
NOISE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def picture(path: Path) -> None:
    Image.fromarray(NOISE).save(path)


def array(values: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def nifti(kind: str, values: np.ndarray) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        nibabel = pytest.importorskip("nibabel")
        image = getattr(nibabel, kind)(values, np.eye(4))
        if values.dtype == np.int16:
            image.header.set_slope_inter(0.5, 3)
        nibabel.save(image, path)

    return save


VOXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
FILES: dict[str, tuple[str, Callable[[Path], None], ImageOptions]] = {
    "png": ("a.png", picture, GREY),
    "jpeg": ("a.JPG", picture, ImageOptions()),
    "tiff": ("a.tif", picture, ImageOptions()),
    "bmp": ("a.bmp", picture, GREY),
    "npy": ("a.npy", array(NOISE), GREY),
    "npy of floats": ("a.npy", array(NOISE[..., 0] / 255), GREY),
    "npy in Fortran's order": ("a.npy", array(np.asfortranarray(NOISE[..., 1])), GREY),
    "npy of a volume": ("a.npy", array(VOXELS), VOLUME),
    "nifti": ("a.nii", nifti("Nifti1Image", VOXELS), VOLUME),
    "packed nifti": ("a.nii.gz", nifti("Nifti1Image", VOXELS), VOLUME),
    "nifti-2": ("a.nii", nifti("Nifti2Image", VOXELS), VOLUME),
    "a slice": ("a.nii.gz", nifti("Nifti2Image", VOXELS[:, :, :1]), GREY),
    "scaled nifti": (
        "a.nii",
        nifti("Nifti1Image", VOXELS.astype(np.int16)),
        ImageOptions(is_grayscale=True, spatial_dimension=3, intensity_range=(0.0, 100.0)),
    ),
}


def written(tmp_path: Path, case: str) -> tuple[Path, ImageOptions]:
    name, save, options = FILES[case]
    save(tmp_path / name)
    return tmp_path / name, options


@pytest.mark.parametrize("case", FILES)
def test_bytes_have_the_pixels_of_their_file(tmp_path: Path, case: str) -> None:
    path, options = written(tmp_path, case)
    right = read_image(path, options)
    found = read_image_bytes(path.read_bytes(), path.name, options)
    assert found.dtype == right.dtype
    np.testing.assert_array_equal(found, right)
    assert found.flags.writeable


def refusal(call: Callable[..., Any], *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.03, 0.5])
def test_torn_bytes_are_refused_as_their_file_is(tmp_path: Path, case: str, kept: float) -> None:
    path, options = written(tmp_path, case)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refusal(read_image, path, options)
    found = refusal(read_image_bytes, path.read_bytes(), path.name, options)
    assert found.startswith(f"{path.name}: ")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"", GREY),
        (b"not an image", GREY),
        (b"not an image", VOLUME),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a", ""])
def test_what_is_no_image_is_refused_by_its_name(
    content: bytes, options: ImageOptions, name: str
) -> None:
    assert refusal(read_image_bytes, content, name, options).startswith(f"{name}: ")


@pytest.mark.parametrize("case", FILES)
def test_the_limit_of_pixels_counts_for_every_format(tmp_path: Path, case: str) -> None:
    path, options = written(tmp_path, case)
    count = int(np.prod(read_image(path, options).shape[1:]))
    assert read_image_bytes(path.read_bytes(), path.name, options, count).size >= count
    found = refusal(read_image_bytes, path.read_bytes(), path.name, options, count - 1)
    assert str(count - 1) in found


def test_an_array_is_refused_by_its_header(tmp_path: Path) -> None:
    array(np.array([[{}]], dtype=object))(tmp_path / "a.npy")
    content = (tmp_path / "a.npy").read_bytes()
    assert refusal(read_image_bytes, content, "a.npy", GREY).startswith("a.npy: ")
    array(NOISE[..., 0])(tmp_path / "b.npy")
    whole = (tmp_path / "b.npy").read_bytes()
    huge = whole.replace(b"(12, 16), }    ", b"(12000, 9000),}")
    assert huge != whole
    assert refusal(read_image_bytes, huge, "b.npy", GREY).startswith("b.npy: ")
