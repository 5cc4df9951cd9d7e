"""Image files: the door to every format; `formats` knows what each declares.

Values come out as stored. They are never scaled by an image's own minimum and maximum, which would
throw its brightness and contrast away. Pictures come out upright: what a TIFF's, a JPEG's or a
PNG's orientation tag says is applied, and sides are those of the upright picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffusion_ood.data.formats import bmp, dicom, jpeg, nifti, png, tiff
from diffusion_ood.data.formats.base import MAX_PIXELS, Picture, Refusal, check_sides
from diffusion_ood.data.formats.npy import open_npy
from diffusion_ood.data.opening import Content, refusing, sentences
from diffusion_ood.data.places import Place
from diffusion_ood.data.slices import header, in_memory
from diffusion_ood.data.volumes import (
    grid_of,
    open_volume,
    oriented,
    oriented_sides,
    voxel_sizes,
    whole,
)
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

Array = npt.NDArray[Any]

PICTURES: tuple[tuple[bytes, Callable[[BinaryIO], Picture]], ...] = (
    (png.SIGNATURE, png.open_png),
    (jpeg.SIGNATURE, jpeg.open_jpeg),
    *((signature, tiff.open_tiff) for signature in tiff.SIGNATURES),
    (bmp.SIGNATURE, bmp.open_bmp),
)
PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DICOM")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
ARRAY_SUFFIX = ".npy"
SUFFIXES = (*PICTURE_SUFFIXES, ARRAY_SUFFIX, *nifti.SUFFIXES)

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow's RGB → L


def image_suffix(name: str) -> str | None:
    """The suffix by which a file name counts as an image, or None."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)


def read_image(path: Path, options: ImageOptions) -> Array:
    """Read an image as stored: (C, *S) of uint8, uint16 or float32; C is 1 or 3 as in `options`.

    Colour becomes grey by ITU-R 601 and grey becomes colour by repetition. An alpha channel is
    dropped where it is opaque throughout. Where 0 means white, values are counted from the other
    end. Grey of 1, 2 and 4 bits fills 0 to 255. Signed integers, and those of 32 bits, become
    float32, which has 24 bits, and so do floats of 64 bits. Volumes of NIfTI are turned, resampled
    and cropped as the options say, and slices are cut from them by their `Place`.

    Raises:
        UserError: not one whole image of a known format, values without a known range, or more
            digits than float32 has where `intensity_range` needs them.
    """
    place, of_volume = Place.of(path), None
    _refuse_slices(place, options)
    with refusing(path, folders=_is_volume(place, options)):
        array = _read(place, options)
        if options.intensity_percentiles and place.plane:
            of_volume = whole(in_memory(place), options)
    return _as_options_say(path, array, options, of_volume)


def read_image_bytes(
    data: bytes, name: str, options: ImageOptions, max_pixels: int = nifti.MAX_VOXELS
) -> Array:
    """What `read_image` gives of a file of this name and content, which need not be on a disk.

    Args:
        data: the file's content.
        name: what sentences begin with; its suffix says what is an array or NIfTI.
        options: as of `read_image`.
        max_pixels: a larger image is refused before memory is taken for it.

    Raises:
        UserError: as `read_image`, or too many pixels.
    """
    if not data:
        raise UserError(f"{name}: found an empty file, expected an image")
    with sentences(name):
        content = Content(name, data)
        check_sides(_sides(content, options), max_pixels)
        if _is_volume(content, options) and not name.lower().endswith(ARRAY_SUFFIX):
            # Of a packed file, what is cropped away is unpacked, too.
            check_sides(open_volume(content).shape[:3], max_pixels)
        array = _read(content, options)
    return _as_options_say(name, array, options)


def as_image(array: Array, name: str, options: ImageOptions) -> Array:
    """What `read_image` would give of a file that holds this array, (*S), (*S, C) or (C, *S).

    Raises:
        UserError: as `read_image`; sentences begin with the name.
    """
    try:
        image = _channels_first(array, options.spatial_dimension)
    except Refusal as error:
        raise UserError(f"{name}: {error}") from None
    return _as_options_say(name, image, options)


def _as_options_say(
    path: Path | str, array: Array, options: ImageOptions, of_volume: Array | None = None
) -> Array:
    """Pixels (C, *S) of any type in the type and the channels that are asked for.

    Percentiles are those of `of_volume`, where the pixels are a slice of it.
    """
    if 0 in array.shape:
        raise UserError(f"{path}: found an image of shape {array.shape}, expected pixels in it")
    array = _convert_channels(_known_type(path, array, options), options.channels)
    if options.intensity_percentiles is not None:
        array = _by_percentiles(path, array, array if of_volume is None else of_volume, options)
    if array.dtype == np.float32:
        _check_floats(path, array, options)
    return np.require(array, requirements=["C", "W"])  # torch takes writable arrays only


def read_samples(path: Path) -> Array:
    """Read a picture or an array as stored: (C, *S) in the file's own type, C = 1 or 3.

    Raises:
        UserError: not one whole image of a known format.
    """
    with refusing(path):
        dimension = 2
        if path.name.lower().endswith(ARRAY_SUFFIX):
            shape = open_npy(path).shape
            channels = len(shape) > 2 and not {1, 3}.isdisjoint({shape[0], shape[-1]})
            dimension = min(max(2, len(shape) - channels), 3)
        return _read(Place(path), ImageOptions(spatial_dimension=dimension))


def image_size(path: Path, options: ImageOptions) -> tuple[int, ...]:
    """The sides *S of what `read_image` gives, from the header.

    Raises:
        UserError: as `read_image`, as far as a header tells.
    """
    place = Place.of(path)
    _refuse_slices(place, options)
    with refusing(path, folders=_is_volume(place, options)):
        return _sides(place, options)


def spacing_of(path: Path, options: ImageOptions) -> tuple[float, ...] | None:
    """Millimetres from voxel to voxel along each axis of what `read_image` gives of a volume.

    None of other images, of volumes that are resampled to one spacing, and of those that do not say
    or cannot be read.
    """
    place = Place.of(path)
    if not _is_volume(place, options) or options.spacing is not None:
        return None
    with contextlib.suppress(UserError), refusing(path, folders=True):
        volume = open_volume(place)
        axes = grid_of(volume, options, place).axes
        return tuple(voxel_sizes(volume.affine)[list(axes)].tolist())
    return None


def value_range(dtype: npt.DTypeLike, options: ImageOptions) -> tuple[float, float]:
    """The stored values of this type that become 0 and 1."""
    if options.intensity_range is not None:
        low, high = options.intensity_range
        return low, high
    dtype = np.dtype(dtype)
    return 0.0, float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def _refuse_slices(place: Place, options: ImageOptions) -> None:
    if place.plane and options.spatial_dimension != 2:
        raise UserError(f"{place}: found a slice, expected a volume; see `spatial_dimension`")


def _is_volume(source: Place | Content, options: ImageOptions) -> bool:
    """Whether a volume is read, or a slice of one."""
    return options.spatial_dimension == 3 or (isinstance(source, Place) and bool(source.plane))


def _read(source: Place | Content, options: ImageOptions) -> Array:
    """The pixels as (C, *S) in the type in which they are stored."""
    place, file = (source, source.path) if isinstance(source, Place) else (None, source)
    if file.name.lower().endswith(ARRAY_SUFFIX):
        return np.array(_channels_first(open_npy(file), options.spatial_dimension))
    if _is_volume(source, options):
        volume = in_memory(place) if place and place.plane else open_volume(source)
        return oriented(volume, options, place)
    if file.name.lower().endswith(nifti.SUFFIXES):
        return nifti.read_slice(file)
    with file.open("rb") as opened:
        ranged = not options.intensity_range is options.intensity_percentiles is None
        return _open_picture(opened).read(ranged=ranged)


def _sides(source: Place | Content, options: ImageOptions) -> tuple[int, ...]:
    """The sides *S, from the header."""
    place, file = (source, source.path) if isinstance(source, Place) else (None, source)
    if file.name.lower().endswith(ARRAY_SUFFIX):
        return _channels_first(open_npy(file), options.spatial_dimension).shape[1:]
    if _is_volume(source, options):
        volume = header(place) if place and place.plane else open_volume(source)
        return oriented_sides(volume, options, place)
    if file.name.lower().endswith(nifti.SUFFIXES):
        return nifti.slice_sides(file)
    with file.open("rb") as opened:
        return _open_picture(opened).sides


def _open_picture(file: BinaryIO) -> Picture:
    """Read what a picture declares, in the format that its first bytes name."""
    start = file.read(dicom.PREAMBLE + len(dicom.MAGIC))
    file.seek(0)
    if start[dicom.PREAMBLE :] == dicom.MAGIC:  # what is before it may be another format's
        return dicom.open_picture(file)
    for signature, open_format in PICTURES:
        if start.startswith(signature):
            return open_format(file)
    raise Refusal(
        f"not an image of a known format, expected {', '.join((*PICTURE_FORMATS, 'NPY'))}"
    )


def _channels_first(array: Array, dimension: int) -> Array:
    """(*S), (*S, C) or (C, *S) → (C, *S); where both fit, the channels are last."""
    if array.ndim == dimension:
        array = array[None]
    elif array.ndim == dimension + 1 and array.shape[-1] in (1, 3):
        array = np.moveaxis(array, -1, 0)
    elif array.ndim != dimension + 1 or array.shape[0] not in (1, 3):
        raise Refusal(
            f"found an array of shape {array.shape}, expected {dimension} sides "
            "and at most one axis of 1 or 3 channels"
        )
    if 0 not in array.shape:
        check_sides(array.shape[1:], MAX_PIXELS if dimension == 2 else nifti.MAX_VOXELS)
    return array


def _known_type(path: Path | str, array: Array, options: ImageOptions) -> Array:
    """The array as uint8, uint16 or, from any other real numbers, float32."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise UserError(f"{path}: found values of type {array.dtype}, expected real numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # what overflows is found as an infinity
        kept = array.astype(np.float32, copy=False)
    if array.dtype.itemsize > 2 and kept is not array and options.intensity_range is not None:
        _check_digits(path, array, kept, options)
    return kept


def _check_digits(path: Path | str, array: Array, kept: Array, options: ImageOptions) -> None:
    """Refuse numbers of the range that float32's 24 bits move by more than a step of 16 bits."""
    low, high = value_range(np.float32, options)
    step, rounding = (high - low) / 65_535, max(abs(low), abs(high)) * 2.0**-24
    if rounding <= step:
        return  # whatever the numbers are
    inside = (array >= low - rounding) & (array <= high + rounding)
    moved = np.abs(kept[inside].astype(np.float64) - array[inside]).max(initial=0)
    if moved > step:
        raise UserError(
            f"{path}: found numbers that float32's 24 bits move by up to {moved:g}, expected "
            f"at most {step:g} with values from {low!r} to {high!r} (see `intensity_range`)"
        )


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


def _by_percentiles(path: Path | str, array: Array, of: Array, options: ImageOptions) -> Array:
    """Values from 0 to 1, which are the percentiles of those `of` the image that are above 0."""
    _check_finite(path, of)
    above = of[of > 0]
    low, high = np.percentile(above, options.intensity_percentiles or ()) if above.size else (0, 0)
    if not low < high:
        raise UserError(f"{path}: found no two values above 0, see `intensity_percentiles`")
    return np.clip((array - low) / (high - low), 0, 1).astype(np.float32)


def _check_finite(path: Path | str, array: Array) -> None:
    if not np.isfinite([array.min(), array.max()]).all():
        raise UserError(f"{path}: found values that are not finite, expected numbers")


def _check_floats(path: Path | str, array: Array, options: ImageOptions) -> None:
    _check_finite(path, array)
    low, high = float(array.min()), float(array.max())
    if options.intensity_range is None and (low < 0 or high > 1):
        raise UserError(
            f"{path}: found values from {low:g} to {high:g}, expected 0 to 1; "
            "give `intensity_range`=LOW,HIGH"
        )
