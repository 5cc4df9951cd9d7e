"""Readers: stored values of every format, and refusals of everything else."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from diffusion_ood.data.readers import image_size, read_image
from diffusion_ood.data.values import value_range
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

GREY = ImageOptions(is_grayscale=True)
COLOUR = ImageOptions()
VOLUME = ImageOptions(is_grayscale=True, spatial_dimension=3)
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def saved(path: Path, array: npt.NDArray[Any]) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_grey_bytes_are_read_as_stored(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", PIXELS)
    image = read_image(path, GREY)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PIXELS[None])
    assert image_size(path, GREY) == (3, 4)


def test_jpeg_is_read_within_its_loss(tmp_path: Path) -> None:
    flat = np.full((8, 8), 100, dtype=np.uint8)
    np.testing.assert_allclose(read_image(saved(tmp_path / "a.jpg", flat), GREY), 100, atol=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 1, 256], [40_000, 65_534, 65_535]], dtype=np.uint16)
    image = read_image(saved(tmp_path / f"a.{suffix}", values), GREY)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[0], values)


def test_colour_becomes_grey_by_itu_r_601(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], dtype=np.uint8)
    path = saved(tmp_path / "a.png", colours)
    np.testing.assert_array_equal(read_image(path, GREY)[0, 0], [76, 150, 29, 9])
    np.testing.assert_array_equal(read_image(path, COLOUR), colours.transpose(2, 0, 1))
    np.save(tmp_path / "a.npy", colours.astype(np.float32) / 255)
    grey = read_image(tmp_path / "a.npy", GREY)
    np.testing.assert_allclose(grey[0, 0], [0.299, 0.587, 0.114, 9 / 255], atol=1e-6)


def test_grey_becomes_colour_by_repetition(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.png", PIXELS), COLOUR)
    np.testing.assert_array_equal(image, [PIXELS] * 3)


def test_palettes_become_their_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", COLOUR)
    np.testing.assert_array_equal(image[:, 0].T, [[10, 20, 30], [200, 100, 50]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_where_opaque_and_refused_elsewhere(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(PIXELS).convert(mode)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", GREY)[0], PIXELS)
    picture.putalpha(128)
    picture.save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png: .*transparent"):
        read_image(tmp_path / "b.png", GREY)


@pytest.mark.parametrize(
    ("shape", "dimension", "sides"),
    [
        ((5, 4), 2, (5, 4)),
        ((5, 4, 3), 2, (5, 4)),
        ((3, 5, 4), 2, (5, 4)),
        ((5, 4, 1), 2, (5, 4)),
        ((5, 4, 6), 3, (5, 4, 6)),
        ((1, 5, 4, 6), 3, (5, 4, 6)),
        ((5, 4, 6, 3), 3, (5, 4, 6)),
    ],
)
def test_arrays_in_every_layout(
    tmp_path: Path, shape: tuple[int, ...], dimension: int, sides: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.save(tmp_path / "a.npy", array)
    channels = 3 if 3 in shape else 1
    options = ImageOptions(is_grayscale=channels == 1, spatial_dimension=dimension)
    image = read_image(tmp_path / "a.npy", options)
    assert image.shape == (channels, *sides)
    first = array[0] if shape[0] == 3 else array[..., 0] if channels == 3 else array.reshape(sides)
    np.testing.assert_array_equal(image[0], first)
    assert image_size(tmp_path / "a.npy", options) == sides


@pytest.mark.parametrize(
    ("dtype", "read_as"), [(">u2", np.uint16), (np.float64, np.float32), (np.int16, np.float32)]
)
def test_array_types(tmp_path: Path, dtype: npt.DTypeLike, read_as: npt.DTypeLike) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 1]], dtype=dtype))
    image = read_image(tmp_path / "a.npy", GREY)
    assert image.dtype == read_as
    np.testing.assert_array_equal(image, [[[0, 1]]])


def test_the_known_range_of_stored_values() -> None:
    assert value_range(np.uint8, GREY) == (0, 255)
    assert value_range(np.uint16, GREY) == (0, 65_535)
    assert value_range(np.float32, GREY) == (0, 1)
    assert value_range(np.uint8, ImageOptions(intensity_range=(-5.0, 5.0))) == (-5, 5)


def test_floats_need_a_range_outside_0_to_1(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[-1000.0, 400.0]]))
    with pytest.raises(UserError, match=r"a\.npy: .*-1000 to 400.*`intensity_range`"):
        read_image(tmp_path / "a.npy", GREY)
    ranged = ImageOptions(is_grayscale=True, intensity_range=(-1000.0, 1000.0))
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", ranged), [[[-1000, 400]]])


@pytest.mark.parametrize("suffix", ["npy", "tif"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64, ">f8"])
def test_digits_that_float32_has_not_are_refused_where_the_range_needs_them(
    tmp_path: Path, suffix: str, dtype: npt.DTypeLike
) -> None:
    if suffix == "tif" and dtype == np.int64:
        return  # TIFF of 64-bit integers is refused
    path = tmp_path / f"a.{suffix}"
    steps = np.arange(12).reshape(3, 4)

    def read(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
        values = values.astype(dtype)
        np.save(path, values) if suffix == "npy" else tifffile.imwrite(path, values)
        return read_image(path, ImageOptions(is_grayscale=True, intensity_range=(low, high)))

    for values, low, high in (
        (1e9 + 9 * steps, 1e9, 1e9 + 100),
        (-1e9 - 9 * steps, -1e9 - 100, -1e9),
        (2**24 + steps, 2.0**24, 2.0**24 + 16),
        (1e9 + 101 + steps, 1e9, 1e9 + 100),
    ):
        with pytest.raises(UserError, match=rf"a\.{suffix}: .*`intensity_range`"):
            read(values, low, high)
    for values, low, high in (
        (1e9 + 9 * steps, 0, 2e9),
        (2**23 + steps, 2.0**23, 2.0**23 + 16),
        (2**30 + 128 * steps, 2.0**30, 2.0**30 + 2000),
        (np.where(steps < 6, -1e9 - 1, 1e6 + steps), 1e6, 1e6 + 16),
    ):
        np.testing.assert_array_equal(read(values, low, high)[0], values.astype(np.float32))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([[np.nan, 0]]), "finite"),
        (np.array([[np.inf, 0]]), "finite"),
        (np.array([[1j, 0]]), "of type"),
        (np.array([["a", "b"]]), "of type"),
        (np.array([[{}]], dtype=object), ""),
        (np.zeros((2, 3, 4), np.uint8), r"\(2, 3, 4\)"),
        (np.zeros((2, 0), np.uint8), r"\(1, 2, 0\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused(
    tmp_path: Path, array: npt.NDArray[Any], sentence: str
) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=rf"a\.npy: .*{sentence}"):
        read_image(tmp_path / "a.npy", GREY)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    for name in ("none.png", ".", "empty.png", "text.png"):
        with pytest.raises(UserError, match=re.escape(f"{tmp_path / name}: ")):
            read_image(tmp_path / name, GREY)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "npy"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    np.save(path, noise) if suffix == "npy" else saved(path, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"a\.{suffix}: "):
        read_image(path, GREY)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf"a\.{suffix}: .*2 "):
        read_image(path, GREY)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.new("1", (20_000, 6_000)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: .*6000 x 20000.*100000000"):
        read_image(tmp_path / "a.png", GREY)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png: .*400000000.*100000000"):
        image_size(tmp_path / "b.png", GREY)


def test_volumes_are_volumes_and_images_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: "):
        read_image(saved(tmp_path / "a.png", PIXELS), VOLUME)
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.nii\.gz: "):
        read_image(tmp_path / "a.nii.gz", GREY)
