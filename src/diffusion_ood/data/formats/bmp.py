"""BMP without compression: palettes, and bytes of blue, green and red."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np

from diffusion_ood.data.formats.base import (
    MAX_PIXELS,
    Array,
    Picture,
    Refusal,
    check_sides,
    refuse_transparent,
)

SIGNATURE = b"BM"
CORE, WINDOWS = 12, (40, 52, 56, 108, 124)  # sizes of the headers that are known
RGB, BIT_FIELDS = 0, 3
BLUE_GREEN_RED = (2, 1, 0)


@dataclass(frozen=True)
class Layout:
    """Where the samples of a BMP lie.

    Attributes:
        width, height: of the picture.
        bits: of a pixel.
        top_down: whether the first row is the upper one.
        start: of the rows in the file.
        palette: its colours (N, 3); none with 24 and 32 bits.
        places: of the bytes of red, green and blue in a pixel.
        alpha: place of the byte of opacity in a pixel, if there is one.
    """

    width: int
    height: int
    bits: int
    top_down: bool
    start: int
    palette: Array
    places: tuple[int, ...]
    alpha: int | None


def open_bmp(file: BinaryIO) -> Picture:
    """Read the header and the palette.

    Raises:
        Refusal: what is not tested.
    """
    layout = _layout(file)
    return Picture((layout.height, layout.width), partial(_decode, file, layout))


def _layout(file: BinaryIO) -> Layout:
    file.seek(10)
    start, size = struct.unpack("<II", _read(file, 8))
    if size != CORE and size not in WINDOWS:
        raise Refusal(f"found a BMP header of {size} bytes, expected {(CORE, *WINDOWS)}")
    header = _read(file, size - 4)
    fields = "<HHHH" if size == CORE else "<iiHH"
    width, height, planes, bits = struct.unpack_from(fields, header)
    compression, colours, after = RGB, 0, b""
    if size != CORE:
        (compression,) = struct.unpack_from("<I", header, 12)
        (colours,) = struct.unpack_from("<I", header, 28)
        after = header[36:]
    kinds = {(RGB, depth) for depth in (1, 4, 8, 24, 32)} | {(BIT_FIELDS, 32)}
    if planes != 1 or (compression, bits) not in kinds:
        raise Refusal(
            f"found a BMP of {bits} bits, {planes} planes and compression {compression}, "
            "expected 1, 4, 8, 24 or 32 bits without compression"
        )
    check_sides((abs(height), width), MAX_PIXELS)
    places: tuple[int, ...] = BLUE_GREEN_RED
    alpha = None
    if compression == BIT_FIELDS:
        places, alpha = _places(after or _read(file, 12))
    entry = 3 if size == CORE else 4
    palette = _palette(file, bits, colours, entry) if bits <= 8 else np.empty((0, 3), np.uint8)
    if start < file.tell():
        raise Refusal(f"found BMP pixels at byte {start}, expected {file.tell()} or later")
    return Layout(width, abs(height), bits, height < 0, start, palette, places, alpha)


def _places(masks: bytes) -> tuple[tuple[int, ...], int | None]:
    """The bytes of a pixel that the masks of red, green, blue and opacity pick out."""
    found = [value for (value,) in struct.iter_unpack("<I", masks[:16])]
    known = {0xFF << 8 * place: place for place in range(4)}
    places = [known.get(value) for value in found[:3]]
    alpha = known.get(found[3]) if len(found) == 4 and found[3] else None
    colours = tuple(place for place in places if place is not None)
    if len({*colours, alpha}) != 4 or (len(found) == 4 and found[3] and alpha is None):
        text = ", ".join(f"{value:#010x}" for value in found)
        raise Refusal(f"found a BMP with the masks {text}, expected one byte for each")
    return colours, alpha


def _palette(file: BinaryIO, bits: int, colours: int, entry: int) -> Array:
    count = colours or 2**bits
    if count > 2**bits:
        raise Refusal(f"found {count} colours in a BMP of {bits} bits, expected at most {2**bits}")
    stored = np.frombuffer(_read(file, count * entry), np.uint8).reshape(count, entry)
    return stored[:, BLUE_GREEN_RED]


def _decode(file: BinaryIO, layout: Layout) -> Array:
    stride = (layout.width * layout.bits + 31) // 32 * 4  # rows begin at every fourth byte
    file.seek(layout.start)
    stored = np.frombuffer(_read(file, stride * layout.height), np.uint8)
    rows = stored.reshape(layout.height, stride)
    if not layout.top_down:
        rows = rows[::-1]
    if layout.bits > 8:
        count = layout.bits // 8
        pixels = rows[:, : layout.width * count].reshape(layout.height, layout.width, count)
        if layout.alpha is not None:
            refuse_transparent(pixels[..., layout.alpha], 255)
        return np.moveaxis(pixels[..., layout.places], -1, 0)
    indices = _indices(rows, layout.bits)[:, : layout.width]
    if indices.max() >= len(layout.palette):
        raise Refusal(f"found entry {indices.max()} of a palette of {len(layout.palette)} colours")
    return np.moveaxis(layout.palette[indices], -1, 0)


def _indices(rows: Array, bits: int) -> Array:
    """(H, bytes) → (H, pixels); the first pixel is in the highest bits."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return ((rows[..., None] >> shifts) & (2**bits - 1)).reshape(len(rows), -1)


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise Refusal("not a whole image (the BMP ends early)")
    return content
