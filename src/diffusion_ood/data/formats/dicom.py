"""DICOM: what a file declares of its pixels, and their values; of the patient nothing is kept.

Values are those of the modality, stored * RescaleSlope + RescaleIntercept. MONOCHROME1, in which
high is dark, is counted from the other end of its bits before that, unless the values have a unit,
such as HU, of which high is high. pydicom reads; what it says is not passed on, as it quotes tags.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from diffusion_ood.data.formats.base import MAX_PIXELS, Array, Picture, Refusal, check_sides
from diffusion_ood.data.formats.dicom_streams import check_stream
from diffusion_ood.data.formats.dicom_tags import floats, functional, quiet, read_tags, whole
from diffusion_ood.data.opening import Source

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = ".dcm"
PREAMBLE, MAGIC = 128, b"DICM"
GREY, PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PIXEL_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "ModalityLUTSequence"),
    *("DoseGridScaling", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
DATA_TAGS = (
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)


@dataclass(frozen=True)
class Pixels:
    """What a file declares of its pixels.

    Attributes:
        rows, columns, frames: how many.
        photometric: one of `GREY` and `COLOURS`, or `PALETTE`.
        allocated, stored: bits of a sample, and those in use.
        signed: whether samples may be negative.
        native: whether they are not compressed.
    """

    rows: int
    columns: int
    frames: int
    photometric: str
    allocated: int
    stored: int
    signed: bool
    native: bool

    @property
    def channels(self) -> int:
        """1 of grey, 3 of colour."""
        return 1 if self.photometric in GREY else 3

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest stored value that the bits can hold."""
        least = -(1 << (self.stored - 1)) if self.signed else 0
        return least, least + (1 << self.stored) - 1


@dataclass(frozen=True)
class Scaling:
    """From stored values to those of the modality: a slope, an intercept, whether in a unit."""

    slope: float
    intercept: float
    has_unit: bool

    def is_plain(self, pixels: Pixels) -> bool:
        """Whether values are the stored ones, and their type's whole range is that of the file."""
        scaled = (self.slope, self.intercept) != (1, 0)
        whole = pixels.allocated == 1 or pixels.stored == pixels.allocated in (8, 16)
        return not scaled and whole and not pixels.signed

    def unranged(self, pixels: Pixels) -> str:
        """Why a user has to say which values become 0 and 1; empty where the type says it."""
        if self.is_plain(pixels):
            return ""
        ends = sorted(self.slope * end + self.intercept for end in pixels.limits)
        return (
            f"found values of {pixels.stored} bits, which can be from {ends[0]:g} to {ends[1]:g}, "
            "expected `intensity_range`=LOW,HIGH, those that become 0 and 1"
        )


def is_dicom(source: Source) -> bool:
    """Whether a file, of any name, begins as DICOM does."""
    if isinstance(source, Path) and not os.path.isfile(source):  # a pipe would wait
        return False
    try:
        with source.open("rb") as file:
            return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    except OSError:
        return False


def open_picture(file: BinaryIO) -> Picture:
    """Read what a file of one frame declares.

    Raises:
        Refusal: damaged, without pixels, of several frames, or what is not tested.
    """
    with quiet():
        dataset = read_tags(file, PIXEL_TAGS)
        pixels = declared(dataset, file)
        if pixels.frames > 1:
            raise Refusal(f"found {pixels.frames} frames, expected one image")
        scaling = scaling_of(dataset, 0)
    check_sides((pixels.rows, pixels.columns), MAX_PIXELS)

    def decode() -> Array:
        (values,) = decoded(file, pixels, [0], [scaling])
        return np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None]

    return Picture((pixels.rows, pixels.columns), decode, unranged=scaling.unranged(pixels))


def decoded(
    file: BinaryIO, pixels: Pixels, numbers: Sequence[int], scalings: Sequence[Scaling]
) -> Iterator[Array]:
    """The values of some frames, (rows, columns), of colour (rows, columns, 3).

    Plain ones have the type of the file, all others are float32, of 32 bits float64.

    Raises:
        Refusal: pixels that the file does not hold.
    """
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    with quiet():
        dataset = read_tags(file, (*PIXEL_TAGS, *DATA_TAGS), pixels=True)
        if "PixelData" not in dataset:
            raise Refusal("found no PixelData, expected the pixels of an image")
        for number, scaling in zip(numbers, scalings, strict=True):
            if not pixels.native:
                check_stream(dataset, number, (pixels.rows, pixels.columns))
            stored = pixel_array(dataset, index=number)
            if pixels.photometric == PALETTE:
                yield apply_color_lut(stored, dataset)
            else:
                yield stored if pixels.channels == 3 else _values(stored, pixels, scaling)


def _values(stored: Array, pixels: Pixels, scaling: Scaling) -> Array:
    """The values of stored samples of grey."""
    low, high = pixels.limits
    unused = 8 * stored.dtype.itemsize - pixels.stored
    if pixels.native and unused > 0 and pixels.allocated > 1:  # older files keep overlays there
        stored = (stored << unused) >> unused
    if stored.min() < low or stored.max() > high:
        raise Refusal(f"found values outside {low} to {high}, all that {pixels.stored} bits hold")
    if pixels.photometric == "MONOCHROME1" and not scaling.has_unit:
        stored = (low + high - stored.astype(np.int64)).astype(stored.dtype)
    if pixels.allocated == 1:
        return stored.astype(np.uint8) * np.uint8(255)
    if scaling.is_plain(pixels):
        return stored
    values = stored * np.float64(scaling.slope) + scaling.intercept
    return values.astype(np.float64 if pixels.allocated == 32 else np.float32)


def declared(dataset: Dataset, file: BinaryIO) -> Pixels:
    """What a file says of its pixels; Refusal of what it lacks, or what is not tested."""
    pixels = Pixels(
        rows=whole(dataset, "Rows"),
        columns=whole(dataset, "Columns"),
        frames=whole(dataset, "NumberOfFrames", 1),
        photometric=str(dataset.get("PhotometricInterpretation", "")),
        allocated=whole(dataset, "BitsAllocated"),
        stored=whole(dataset, "BitsStored"),
        signed=bool(whole(dataset, "PixelRepresentation")),
        native=_is_native(dataset),
    )
    check_sides((pixels.rows, pixels.columns, pixels.frames), sys.maxsize)
    if pixels.photometric not in (*GREY, *COLOURS, PALETTE):
        raise Refusal(f"found no PhotometricInterpretation of {', '.join((*GREY, *COLOURS))}")
    samples = 3 if pixels.photometric in COLOURS else 1
    if (found := whole(dataset, "SamplesPerPixel")) != samples:
        raise Refusal(f"found {found} samples a pixel, expected {samples}")
    bits = (pixels.allocated, pixels.stored)
    known = pixels.allocated in (1, 8, 16, 32) and 1 <= pixels.stored <= pixels.allocated
    if not known or (samples == 3 and bits not in ((8, 8), (16, 16))):
        raise Refusal(f"found {bits[1]} bits in {bits[0]}, expected at most 32, of colour 8 or 16")
    if whole(dataset, "HighBit", pixels.stored - 1) != pixels.stored - 1:
        raise Refusal("found samples that do not end at bit 0, expected them there")
    for tag, meaning in (
        ("DoseGridScaling", "doses"),
        ("ModalityLUTSequence", "values by a table"),
    ):
        if tag in dataset:
            raise Refusal(f"found {meaning} ({tag}), expected an image of a slope and an intercept")
    size = file.seek(0, os.SEEK_END)
    if pixels.native and pixels.rows * pixels.columns * pixels.frames * bits[0] > 8 * size:
        raise Refusal(
            f"found {size:,} bytes, expected {pixels.rows} x {pixels.columns} pixels of "
            f"{bits[0]} bits in {pixels.frames} frames"
        )
    return pixels


def _is_native(dataset: Dataset) -> bool:
    """Whether pixels are not compressed; Refusal of a compression that nothing here undoes."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise Refusal("found no TransferSyntaxUID, expected one")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Refusal(f"found the transfer syntax {syntax.name}, which is not read here") from None
    if not decoder.is_available:
        raise Refusal(
            f"found the transfer syntax {syntax.name}, for which no decoder is installed, "
            "expected the extra diffusion-ood[dicom]"
        )
    return not syntax.is_encapsulated


def scaling_of(dataset: Dataset, number: int) -> Scaling:
    """From the stored values of a frame to those of the modality."""
    item = functional(dataset, number, "PixelValueTransformationSequence")
    slope = floats(item, "RescaleSlope", 1) or (1.0,)
    intercept = floats(item, "RescaleIntercept", 1) or (0.0,)
    if slope[0] == 0:
        raise Refusal("found RescaleSlope 0, by which all values are the same")
    unit = item.get("RescaleType") or dataset.get("Units")
    return Scaling(slope[0], intercept[0], unit not in (None, "", "US"))  # US: unspecified
