"""Picture files made byte by byte from known samples, after the formats' standards."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from diffusion_ood.data.readers import read_image
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

Array = npt.NDArray[Any]

# TIFF 6.0, page 36: the side of the upright picture where the first stored row and column lie.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
ADAM7.append((0, 1, 1, 2))  # first column and row, steps of columns and rows
KINDS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 8: "h", 11: "f", 16: "Q"}  # TIFF's, by number
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def upright_place(orientation: int, row: int, column: int, height: int, width: int) -> tuple:
    """(y, x) in the upright picture (height, width) of the sample in a stored row and column."""
    y = x = 0
    for side, at in zip(ORIENTATIONS[orientation], (row, column), strict=True):
        if side in ("top", "bottom"):
            y = at if side == "top" else height - 1 - at
        else:
            x = at if side == "left" else width - 1 - at
    return y, x


def turned(samples: Array, orientation: int, *, inverse: bool = False) -> Array:
    """Upright (C, H, W) as it is stored under an orientation; or back, with `inverse`."""
    channels, height, width = samples.shape
    stored_sides = (width, height) if (orientation > 4) != inverse else (height, width)
    if inverse:
        out = np.empty(
            (channels, width, height) if orientation > 4 else samples.shape, samples.dtype
        )
        for row, column in np.ndindex(height, width):
            out[(slice(None), *upright_place(orientation, row, column, *out.shape[1:]))] = samples[
                :, row, column
            ]
        return out
    out = np.empty((channels, *stored_sides), samples.dtype)
    for row, column in np.ndindex(*stored_sides):
        y, x = upright_place(orientation, row, column, height, width)
        out[:, row, column] = samples[:, y, x]
    return out


def packed_rows(samples: Array, bits: int, order: str = ">") -> Array:
    """(C, H, W) as rows of bytes (H, N), the channels of a pixel side by side."""
    rows = np.moveaxis(samples, 0, -1).reshape(samples.shape[1], -1)
    if bits >= 8:
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder(order))
        return rows.view(np.uint8).reshape(len(rows), -1)
    places = np.arange(bits - 1, -1, -1, dtype=np.uint8)
    separate = (rows.astype(np.uint8)[..., None] >> places) & 1
    return np.packbits(separate.reshape(len(rows), -1), axis=1)


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block with an orientation, of a type, between two other tags."""
    entries = [(256, 4, 7), (274, kind, orientation), (296, 3, 2)]
    block = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(entries))
    for tag, code, value in entries:
        stored = struct.pack(f"{order}{KINDS[code]}", value).ljust(4, b"\0")
        block += struct.pack(f"{order}HHI", tag, code, 1) + stored
    return block + bytes(4)


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def filtered(rows: Array, step: int, kinds: Iterable[int]) -> bytes:
    """PNG's rows, each after the number of the filter that was applied (PNG, section 9)."""
    out = b""
    above = np.zeros(rows.shape[1], int)
    for row, kind in zip(rows.astype(int), kinds, strict=False):
        left = np.concatenate([np.zeros(step, int), row])[: len(row)]
        corner = np.concatenate([np.zeros(step, int), above])[: len(row)]
        guess = left + above - corner
        far = np.abs([guess - left, guess - above, guess - corner])
        paeth = np.choose(far.argmin(axis=0), [left, above, corner])
        predicted = [0 * row, left, above, (left + above) // 2, paeth][kind]
        out += bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def png(
    samples: Array,
    depth: int,
    colour: int,
    *,
    interlace: bool = False,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    parts: int = 1,
) -> bytes:
    """A PNG of (C, H, W) whole numbers, every filter used in turn; other chunks as given."""
    channels, height, width = samples.shape
    assert channels == PNG_CHANNELS[colour]
    samples = samples.astype(np.uint16 if depth == 16 else np.uint8)
    step = max(1, depth * channels // 8)
    passes = ADAM7 if interlace else [(0, 0, 1, 1)]
    stream = b""
    for left, top, across, down in passes:
        piece = samples[:, top::down, left::across]
        if piece.size:
            stream += filtered(packed_rows(piece, depth), step, itertools.cycle(range(5)))
    data = zlib.compress(stream)
    size = -(-len(data) // parts)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = [(b"IHDR", header), *before]
    chunks += [(b"IDAT", data[at : at + size]) for at in range(0, len(data), size)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*item) for item in (*chunks, *after, (b"IEND", b""))
    )


def tiff_directory(
    entries: Sequence[tuple[int, int, Sequence[int]]], order: str, start: int, *, big: bool = False
) -> bytes:
    """A directory (tag, type, values) that lies at `start`, with its longer values behind it."""
    count, entry, room, offset = ("Q", "HHQ", 8, "Q") if big else ("H", "HHI", 4, "I")
    entry_size = struct.calcsize(f"<{entry}") + room
    values_at = start + struct.calcsize(f"<{count}") + entry_size * len(entries) + room
    directory, values = struct.pack(f"{order}{count}", len(entries)), b""
    for tag, kind, numbers in entries:
        stored = struct.pack(f"{order}{len(numbers)}{KINDS[kind]}", *numbers)
        if len(stored) > room:
            place = struct.pack(f"{order}{offset}", values_at + len(values))
            values += stored + bytes(len(stored) % 2)
        else:
            place = stored.ljust(room, b"\0")
        length = len(numbers) // (2 if kind == 5 else 1)  # fractions are of two numbers
        directory += struct.pack(f"{order}{entry}", tag, kind, length) + place
    return directory + bytes(room) + values


def tiff(
    samples: Array,
    photometric: int,
    *,
    order: str = "<",
    bits: int | None = None,
    planar: int = 1,
    strip: int | None = None,
    tile: tuple[int, int] | None = None,
    compression: int = 1,
    predictor: int = 1,
    extra: Sequence[int] = (),
    tags: Mapping[int, tuple[int, Sequence[int]] | None] | None = None,
    big: bool = False,
) -> bytes:
    """A TIFF of (C, H, W) samples in their own type; `tags` adds, replaces or (None) removes."""
    channels, height, width = samples.shape
    bits = bits or samples.dtype.itemsize * 8
    pieces, layout = [], {}
    planes = [samples] if planar == 1 else list(samples[:, None])
    if tile:
        padded = [-(-side // part) * part for side, part in zip((height, width), tile, strict=True)]
        for plane in planes:
            whole = np.zeros((len(plane), *padded), plane.dtype)
            whole[:, :height, :width] = plane
            for top, left in itertools.product(*map(range, (0, 0), padded, tile)):
                pieces.append(whole[:, top : top + tile[0], left : left + tile[1]])
        layout = {322: (4, [tile[1]]), 323: (4, [tile[0]])}
    else:
        strip = strip or height
        for plane in planes:
            pieces += [plane[:, top : top + strip] for top in range(0, height, strip)]
        layout = {278: (4, [strip])}
    encoded = [tiff_encoded(piece, bits, order, compression, predictor) for piece in pieces]
    head = 16 if big else 8
    starts = [head, *(head + np.cumsum([len(part) for part in encoded])).tolist()]
    end = starts.pop()
    entries: dict[int, tuple[int, Sequence[int]] | None] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [compression]),
        262: (3, [photometric]),
        324 if tile else 273: (4, starts),
        277: (3, [channels]),
        **layout,
        325 if tile else 279: (4, [len(part) for part in encoded]),
        284: (3, [planar]),
        317: (3, [predictor]),
        339: (3, [{"u": 1, "b": 1, "i": 2, "f": 3}[samples.dtype.kind]] * channels),
        **({338: (3, extra)} if extra else {}),
        **(tags or {}),
    }
    listed = [(tag, *value) for tag, value in sorted(entries.items()) if value is not None]
    mark = {"<": b"II", ">": b"MM"}[order]
    first = (
        struct.pack(f"{order}HHHQ", 43, 8, 0, end) if big else struct.pack(f"{order}HI", 42, end)
    )
    return mark + first + b"".join(encoded) + tiff_directory(listed, order, end, big=big)


def tiff_encoded(piece: Array, bits: int, order: str, compression: int, predictor: int) -> bytes:
    """A strip or tile: predicted, in bytes, compressed."""
    if predictor == 2:  # differences of neighbours
        unsigned = piece.view(f"u{piece.dtype.itemsize}")
        piece = np.diff(unsigned, axis=2, prepend=unsigned[:, :, :1] * 0).view(piece.dtype)
    rows = packed_rows(piece, bits, order)
    if predictor == 3:  # the bytes of a row by significance, then their differences
        size, pixels = piece.dtype.itemsize, piece.shape[2] * len(piece)
        rows = packed_rows(piece, bits, ">").reshape(len(rows), pixels, size)
        rows = rows.transpose(0, 2, 1).reshape(len(rows), -1)
        step = len(piece)
        rows = np.concatenate([rows[:, :step], rows[:, step:] - rows[:, :-step]], axis=1)
    stored = rows.tobytes()
    if compression in (8, 32946):
        return zlib.compress(stored)
    if compression == 32773:  # PackBits, of literal runs and repeats
        parts = [stored[at : at + 128] for at in range(0, len(stored), 128)]
        return b"".join(
            bytes([257 - len(part), part[0]])
            if len(part) > 1 and len({*part}) == 1
            else bytes([len(part) - 1]) + part
            for part in parts
        )
    assert compression == 1
    return stored


def bmp(
    samples: Array,
    bits: int,
    *,
    header: int = 40,
    top_down: bool = False,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: Array | None = None,
) -> bytes:
    """A BMP of (C, H, W) bytes in their order within a pixel, or of (1, H, W) palette entries."""
    _, height, width = samples.shape
    rows = packed_rows(samples, min(8, bits))
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    stored = (rows if top_down else rows[::-1]).tobytes()
    entries = b""
    if palette is not None:
        entry = palette[:, ::-1] if header == 12 else np.pad(palette[:, ::-1], ((0, 0), (0, 1)))
        entries = entry.astype(np.uint8).tobytes()
    if header == 12:
        dib = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        sides = width, -height if top_down else height
        count = 0 if palette is None else len(palette)
        dib = struct.pack("<IiiHHI", header, *sides, 1, bits, compression)
        dib += struct.pack("<IiiII", len(stored), 0, 0, count, 0)
        dib += struct.pack(f"<{len(masks)}I", *masks)
        dib = dib.ljust(header, b"\0")
    start = 14 + len(dib) + len(entries)
    return b"BM" + struct.pack("<IHHI", start + len(stored), 0, 0, start) + dib + entries + stored


def refused(path: Path, content: bytes) -> str:
    """The sentence with which a file of this content is refused; it begins with the file's name."""
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_image(path, ImageOptions())
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)
