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

from diffusion_ood.data.formats import bmp, dicom, jpeg, nifti, png, tiff
from diffusion_ood.data.formats.base import MAX_PIXELS, Picture, Refusal, check_sides
from diffusion_ood.data.formats.npy import open_npy
from diffusion_ood.data.opening import Content, refusing, sentences
from diffusion_ood.data.places import Place
from diffusion_ood.data.slices import ends_of_volume, header, in_memory
from diffusion_ood.data.values import as_options_say
from diffusion_ood.data.volumes import (
    grid_of,
    open_volume,
    oriented,
    oriented_sides,
    voxel_sizes,
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
    place, ends = Place.of(path), None
    _refuse_slices(place, options)
    with refusing(path, folders=_is_volume(place, options)):
        array = _read(place, options)
        if options.intensity_percentiles and place.plane:
            ends = ends_of_volume(place, options)
    return as_options_say(path, array, options, ends)


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
    return as_options_say(name, array, options)


def as_image(array: Array, name: str, options: ImageOptions) -> Array:
    """What `read_image` would give of a file that holds this array, (*S), (*S, C) or (C, *S).

    Raises:
        UserError: as `read_image`; sentences begin with the name.
    """
    try:
        image = _channels_first(array, options.spatial_dimension)
    except Refusal as error:
        raise UserError(f"{name}: {error}") from None
    return as_options_say(name, image, options)


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
        volume = in_memory(place, options) if place and place.plane else open_volume(source)
        return oriented(volume, options, place)
    if file.name.lower().endswith(nifti.SUFFIXES):
        return nifti.read_slice(file)
    with file.open("rb") as opened:
        ranged = bool(options.intensity_range or options.intensity_percentiles)
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
