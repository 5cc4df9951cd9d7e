"""Image files: the only module that knows their formats.

Values come out as stored. They are never scaled by an image's own minimum and maximum, which would
throw its brightness and contrast away. Orientation tags of cameras are not applied.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

Array = npt.NDArray[Any]

# Far above any image a diffusion model sees, and below what a small machine can hold.
MAX_PIXELS = 100_000_000
MAX_VOXELS = 1_000_000_000

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUME_SUFFIXES = (".nii", ".nii.gz")
ARRAY_SUFFIX = ".npy"
SUFFIXES = (*PICTURE_SUFFIXES, ARRAY_SUFFIX, *VOLUME_SUFFIXES)

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow's RGB → L


def image_suffix(name: str) -> str | None:
    """The suffix by which a file name counts as an image, or None."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)


def read_image(path: Path, options: ImageOptions) -> Array:
    """Read an image as stored: (C, *S) of uint8, uint16 or float32; C is 1 or 3 as in `options`.

    Colour becomes grey by ITU-R 601 and grey becomes colour by repetition. An alpha channel is
    dropped where it is opaque throughout.

    Raises:
        UserError: not one whole image of a known format, or values without a known range.
    """
    with _refusing(path):
        array = _read(path, options)
    if 0 in array.shape:
        raise UserError(f"{path}: found an image of shape {array.shape}, expected pixels in it")
    array = _convert_channels(_known_type(path, array), options.channels)
    if array.dtype == np.float32:
        _check_floats(path, array, options)
    return np.require(array, requirements=["C", "W"])  # torch takes writable arrays only


def image_size(path: Path, options: ImageOptions) -> tuple[int, ...]:
    """The sides *S of an image, from its header.

    Raises:
        UserError: as `read_image`, as far as a header tells.
    """
    with _refusing(path):
        if _is_array(path):
            return _channels_first(path, _open_array(path), options.spatial_dimension).shape[1:]
        if options.spatial_dimension == 3:
            return tuple(_open_volume(path).shape)
        with _open_picture(path) as picture:
            return picture.height, picture.width


def value_range(dtype: npt.DTypeLike, options: ImageOptions) -> tuple[float, float]:
    """The stored values of this type that become 0 and 1."""
    if options.intensity_range is not None:
        low, high = options.intensity_range
        return low, high
    dtype = np.dtype(dtype)
    return 0.0, float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def file_status(path: Path) -> os.stat_result:
    """The size and times of an image file.

    Raises:
        UserError: it is missing, empty, or not a regular file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        found = f"found a link to nothing, {os.readlink(path)}" if os.path.islink(path) else ""
        raise UserError(f"{path}: {found or 'no such file'}, expected an image") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: found a folder, expected an image file")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
        raise UserError(f"{path}: found a pipe or a device, expected an image file")
    if status.st_size == 0:
        raise UserError(f"{path}: found an empty file, expected an image")
    return status


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn any exception of a decoder into a sentence that names the file."""
    file_status(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it then repairs or raises; its limit of pixels differs from ours
            warnings.filterwarnings("ignore", module=r"PIL\b")
            yield
    except UserError:
        raise
    except MemoryError:
        raise
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # decoders of foreign bytes raise anything
        sentence = f"not a whole image of a known format ({_reason(error)})"
        raise UserError(f"{path}: {sentence}") from error


def _reason(error: Exception) -> str:
    """The first line of what went wrong."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return next(iter(text.strip().splitlines()), type(error).__name__)


def _is_array(path: Path) -> bool:
    return path.name.lower().endswith(ARRAY_SUFFIX)


def _read(path: Path, options: ImageOptions) -> Array:
    """The file's pixels as (C, *S) in the type in which they are stored."""
    if _is_array(path):
        return np.array(_channels_first(path, _open_array(path), options.spatial_dimension))
    if options.spatial_dimension == 3:
        return np.asanyarray(_open_volume(path).dataobj)[None]
    return _read_picture(path)


def _open_picture(path: Path) -> Image.Image:
    """Open a picture without decoding it."""
    if path.name.lower().endswith(VOLUME_SUFFIXES):
        raise UserError(f"{path}: found a volume, expected an image (see `spatial_dimension`=3)")
    try:
        picture = Image.open(path, formats=PICTURE_FORMATS)
    except Image.DecompressionBombError as error:
        found = re.findall(r"\d+", str(error))[0]
        raise UserError(f"{path}: found {found} pixels, expected at most {MAX_PIXELS}") from None
    except UnidentifiedImageError:
        expected = ", ".join((*PICTURE_FORMATS, "NPY"))
        raise UserError(f"{path}: not an image of a known format, expected {expected}") from None
    _check_count(path, picture.size, MAX_PIXELS)
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{path}: found {frames} frames or pages, expected one image")
    return picture


def _check_count(path: Path, sides: tuple[int, ...], limit: int) -> None:
    found = " x ".join(map(str, sides))
    if np.prod(sides, dtype=float) > limit:
        raise UserError(f"{path}: found {found} pixels, expected at most {limit} in all")


def _read_picture(path: Path) -> Array:
    with _open_picture(path) as picture:
        mode = picture.mode
        if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
            picture = _without_alpha(path, picture.convert("RGBA"), grey=mode in ("LA", "La", "L"))
        elif mode in ("P", "CMYK", "YCbCr"):
            picture = picture.convert("RGB")
        elif mode == "1":
            picture = picture.convert("L")
        elif mode not in ("L", "RGB", "F", "I") and not mode.startswith("I;16"):
            raise UserError(f"{path}: found pixels of mode {mode}, expected grey or RGB")
        array = np.asarray(picture)
        if mode == "I" and picture.format == "PNG":  # older Pillow widens PNG's 16 bits to 32
            array = array.astype(np.uint16)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _without_alpha(path: Path, picture: Image.Image, grey: bool) -> Image.Image:
    if picture.getchannel("A").getextrema() != (255, 255):
        raise UserError(f"{path}: found transparent pixels, expected an opaque image")
    return picture.getchannel("R") if grey else picture.convert("RGB")


def _open_array(path: Path) -> Array:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _channels_first(path: Path, array: Array, dimension: int) -> Array:
    """(*S), (*S, C) or (C, *S) → (C, *S); where both fit, the channels are last."""
    if array.ndim == dimension:
        array = array[None]
    elif array.ndim == dimension + 1 and array.shape[-1] in (1, 3):
        array = np.moveaxis(array, -1, 0)
    elif array.ndim != dimension + 1 or array.shape[0] not in (1, 3):
        raise UserError(
            f"{path}: found an array of shape {array.shape}, expected {dimension} sides "
            "and at most one axis of 1 or 3 channels"
        )
    _check_count(path, array.shape[1:], MAX_PIXELS if dimension == 2 else MAX_VOXELS)
    return array


def _open_volume(path: Path) -> Any:  # noqa: ANN401 - nibabel has no types
    """Open a NIfTI file of three axes without reading its voxels."""
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        raise UserError(f"{path}: expected a volume as {', '.join(VOLUME_SUFFIXES)} or NPY")
    try:
        import nibabel
    except ImportError:
        raise UserError(
            f"{path}: reading NIfTI needs the package nibabel; install it or convert to NPY"
        ) from None
    volume = nibabel.load(path)
    if len(volume.shape) != 3:
        raise UserError(f"{path}: found an array of shape {volume.shape}, expected three sides")
    _check_count(path, volume.shape, MAX_VOXELS)
    return volume


def _known_type(path: Path, array: Array) -> Array:
    """The array as uint8, uint16 or, from any other real numbers, float32."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise UserError(f"{path}: found values of type {array.dtype}, expected real numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # what overflows is found as an infinity
        return array.astype(np.float32, copy=False)


def _convert_channels(array: Array, channels: int) -> Array:
    """(1 or 3, *S) → (channels, *S)."""
    if len(array) == channels:
        return array
    if channels == 3:
        return np.repeat(array, 3, axis=0)
    if array.dtype == np.uint8 and array.ndim == 3:
        picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(array, 0, -1)))
        return np.asarray(picture.convert("L"))[None]
    grey = np.tensordot(_LUMA, array, axes=1)[None]
    return (grey if array.dtype == np.float32 else grey.round()).astype(array.dtype)


def _check_floats(path: Path, array: Array, options: ImageOptions) -> None:
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise UserError(f"{path}: found values that are not finite, expected numbers")
    if options.intensity_range is None and (low < 0 or high > 1):
        raise UserError(
            f"{path}: found values from {low:g} to {high:g}, expected 0 to 1; "
            "give `intensity_range`=LOW,HIGH"
        )
