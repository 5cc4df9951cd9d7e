"""The values of an image: their type, their channels, and which of them become 0 and 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffusion_ood.data.formats.base import Array, Refusal
from diffusion_ood.data.opening import sentences
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow's RGB → L


def value_range(dtype: npt.DTypeLike, options: ImageOptions) -> tuple[float, float]:
    """The stored values of this type that become 0 and 1."""
    if options.intensity_range is not None:
        low, high = options.intensity_range
        return low, high
    dtype = np.dtype(dtype)
    return 0.0, float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def as_options_say(
    path: Path | str,
    array: Array,
    options: ImageOptions,
    ends: tuple[float, float] | None = None,
) -> Array:
    """Pixels (C, *S) of any type in the type and the channels that are asked for.

    The `ends` are the `percentile_ends` of the volume, where the pixels are a slice of it.

    Raises:
        UserError: values without a known range, or more digits than float32 has.
    """
    if 0 in array.shape:
        raise UserError(f"{path}: found an image of shape {array.shape}, expected pixels in it")
    array = _convert_channels(_known_type(path, array, options), options.channels)
    if options.intensity_percentiles is not None:
        with sentences(path):
            low, high = ends or percentile_ends(array, options)
        array = np.clip((array - low) / (high - low), 0, 1).astype(np.float32)
    if array.dtype == np.float32:
        _check_floats(path, array, options)
    return np.require(array, requirements=["C", "W"])  # torch takes writable arrays only


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


def percentile_ends(values: Array, options: ImageOptions) -> tuple[float, float]:
    """The percentiles that become 0 and 1, of the values above 0.

    Raises:
        Refusal: values that are not finite, or no two of them above 0.
    """
    if not np.isfinite([values.min(), values.max()]).all():
        raise Refusal("found values that are not finite, expected numbers")
    above = values[values > 0]
    low, high = np.percentile(above, options.intensity_percentiles or ()) if above.size else (0, 0)
    if not low < high:
        raise Refusal("found no two values above 0, see `intensity_percentiles`")
    return float(low), float(high)


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
