"""PNG: its chunks are read and checked here; Pillow's decoder undoes the filters of the rows."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from diffusion_ood.data.formats.base import (
    MAX_PIXELS,
    Array,
    Picture,
    Refusal,
    agreed_orientation,
    block_orientation,
    channels_first,
    check_sides,
    refuse_transparent,
    without_alpha,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6

# Colour type and bit depth → Pillow's mode and the ways in which it unpacks the samples. Of 16 bits
# in colour it keeps one byte, so two ways give the two bytes; grey and alpha of 16 bits have the
# four bytes of four samples of 8.
UNPACKED: dict[tuple[int, int], tuple[str, tuple[str, ...]]] = {
    (GREY, 1): ("1", ("1",)),
    (GREY, 2): ("L", ("L;2",)),  # 2 and 4 bits are scaled to 0..255
    (GREY, 4): ("L", ("L;4",)),
    (GREY, 8): ("L", ("L",)),
    (GREY, 16): ("I;16", ("I;16B",)),
    (RGB, 8): ("RGB", ("RGB",)),
    (RGB, 16): ("RGB", ("RGB;16B", "RGB;16L")),
    (PALETTE, 1): ("P", ("P;1",)),
    (PALETTE, 2): ("P", ("P;2",)),
    (PALETTE, 4): ("P", ("P;4",)),
    (PALETTE, 8): ("P", ("P",)),
    (GREY_ALPHA, 8): ("LA", ("LA",)),
    (GREY_ALPHA, 16): ("RGBA", ("RGBA",)),
    (RGB_ALPHA, 8): ("RGBA", ("RGBA",)),
    (RGB_ALPHA, 16): ("RGBA", ("RGBA;16B", "RGBA;16L")),
}
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}

# First column and row of each pass of Adam7, and the steps between its columns and rows.
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)

KEPT = (b"PLTE", b"tRNS", b"eXIf", b"acTL", b"cICP")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PROFILES = tuple(b"Raw profile type " + kind for kind in (b"exif", b"APP1", b"xmp"))
MAX_TEXT = 10_000_000


class Header(NamedTuple):
    """The fields of IHDR."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filter: int
    interlace: int


@dataclass(frozen=True)
class Chunks:
    """Chunks by name, each of which may be there once; texts; where the compressed rows lie."""

    kept: dict[bytes, bytes] = field(default_factory=dict)
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)


def open_png(file: BinaryIO) -> Picture:
    """Read every chunk but the compressed rows.

    Raises:
        Refusal: damaged chunks, or what is not tested.
    """
    file.seek(len(SIGNATURE))
    header = _header(file)
    chunks = _chunks(file)
    if b"acTL" in chunks.kept:
        frames = int.from_bytes(chunks.kept[b"acTL"][:4], "big")
        raise Refusal(f"found an animation of {frames} frames or pages, expected one image")
    if header.colour == PALETTE and b"PLTE" not in chunks.kept:
        raise Refusal("found no palette, expected one as the PNG header says")
    if chunks.kept.get(b"cICP", b"\1")[-1:] == b"\0":
        raise Refusal("found a PNG of narrow range (its chunk cICP), expected the full range")
    exif = block_orientation(chunks.kept.get(b"eXIf", b""))
    orientation = agreed_orientation(exif, (_text_block(*text) for text in chunks.texts))
    sides = header.height, header.width
    return Picture(sides, partial(_decode, file, header, chunks), orientation)


def _header(file: BinaryIO) -> Header:
    length, kind = _chunk_start(file)
    if kind != b"IHDR" or length != 13:
        raise Refusal(f"found the PNG chunk {kind!r} of {length} bytes, expected IHDR of 13")
    header = Header._make(struct.unpack(">IIBBBBB", _checked(kind, file.read(17), length)))
    check_sides((header.height, header.width), MAX_PIXELS)
    known = (header.colour, header.depth) in UNPACKED and header.interlace < 2
    if not known or header.compression or header.filter:
        raise Refusal(f"found the PNG header {tuple(header)}, expected one of the standard's")
    return header


def _chunks(file: BinaryIO) -> Chunks:
    """The chunks behind the header."""
    chunks = Chunks()
    last = kind = b"IHDR"
    while kind != b"IEND":
        length, kind = _chunk_start(file)
        if kind == b"IDAT":
            if chunks.rows and last != kind:
                raise Refusal("found rows in two places of a PNG, expected one")
            chunks.rows.append((file.tell(), length))
            file.seek(length + 4, os.SEEK_CUR)
        else:
            body = _checked(kind, file.read(length + 4), length)
            needed = not kind[0] & 32  # a capital letter: without it the pixels mean nothing
            if kind in chunks.kept or (needed and kind not in (b"PLTE", b"IEND")):
                raise Refusal(f"found the PNG chunk {kind!r}, expected one of the standard's, once")
            if kind in KEPT:
                chunks.kept[kind] = body
            elif kind in TEXTS:
                chunks.texts.append((kind, body))
        last = kind
    return chunks


def _chunk_start(file: BinaryIO) -> tuple[int, bytes]:
    """A chunk's length and name."""
    start = file.read(8)
    if len(start) < 8:
        raise Refusal("not a whole image (the PNG ends early)")
    length, kind = struct.unpack(">I4s", start)
    return length, kind


def _checked(kind: bytes, body: bytes, length: int) -> bytes:
    """The chunk's content, where its checksum is right."""
    content, checksum = body[:length], body[length:]
    if zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big") != checksum:
        raise Refusal(f"not a whole image (the PNG chunk {kind!r} is damaged)")
    return content


def _text_block(kind: bytes, body: bytes) -> bytes:
    """The EXIF or XMP that a text chunk holds, as some programs write it; b"" where it has none."""
    keyword, _, text = body.partition(b"\0")
    if keyword not in (*PROFILES, b"XML:com.adobe.xmp"):
        return b""
    packed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
    if kind == b"iTXt":  # two bytes on compression, the language, the keyword in it
        text = text[2:].split(b"\0", 2)[-1]
    elif packed:
        text = text[1:]
    try:
        text = zlib.decompressobj().decompress(text, MAX_TEXT) if packed else text
        # A profile is its name, its length, then hexadecimal digits.
        return bytes.fromhex(b"".join(text.split()[2:]).decode()) if keyword in PROFILES else text
    except (ValueError, zlib.error):  # damaged EXIF declares nothing either
        return b""


def _decode(file: BinaryIO, header: Header, chunks: Chunks) -> Array:
    samples = _samples(_rows(file, header, chunks), header)
    if header.colour == PALETTE:
        return _coloured(samples[0], chunks)
    if header.colour in (GREY_ALPHA, RGB_ALPHA):
        return without_alpha(samples)
    if b"tRNS" in chunks.kept:
        _refuse_key(samples, header, chunks.kept[b"tRNS"])
    return samples


def _rows(file: BinaryIO, header: Header, chunks: Chunks) -> bytes:
    """The inflated rows, still filtered, each with the number of its filter before it.

    Decoders take what is there of short or damaged rows; the two checksums and the length tell.
    """
    parts = []
    for start, length in chunks.rows:
        file.seek(start)
        parts.append(_checked(b"IDAT", file.read(length + 4), length))
    expected = _filtered_size(header)
    inflater = zlib.decompressobj()
    rows = inflater.decompress(b"".join(parts), expected + 1)
    if len(rows) != expected or not inflater.eof:
        raise Refusal(f"not a whole image (found {len(rows)} bytes of rows, expected {expected})")
    return rows


def _filtered_size(header: Header) -> int:
    bits = header.depth * SAMPLES[header.colour]
    size = 0
    for left, top, across, down in ADAM7 if header.interlace else ((0, 0, 1, 1),):
        width = -(-(header.width - left) // across)
        height = -(-(header.height - top) // down)
        if width > 0 and height > 0:
            size += height * (1 + (width * bits + 7) // 8)
    return size


def _samples(rows: bytes, header: Header) -> Array:
    """The samples as stored, (C, H, W); those of 1, 2 and 4 bits of grey become 0..255."""
    mode, ways = UNPACKED[header.colour, header.depth]
    size = header.width, header.height
    stored = zlib.compress(rows, 0)  # Pillow undoes filters in compressed data alone
    images = [Image.frombytes(mode, size, stored, "zip", way, header.interlace) for way in ways]
    arrays = [channels_first(image) for image in images]
    if len(arrays) == 2:
        return arrays[0].astype(np.uint16) << 8 | arrays[1]
    if (header.colour, header.depth) == (GREY_ALPHA, 16):
        pairs = arrays[0].astype(np.uint16)
        return pairs[::2] << 8 | pairs[1::2]
    if mode == "1":
        return arrays[0].astype(np.uint8) * np.uint8(255)
    return arrays[0]


def _coloured(indices: Array, chunks: Chunks) -> Array:
    """(H, W) of entries → their colours, (3, H, W)."""
    stored = chunks.kept[b"PLTE"]
    if len(stored) % 3 or not 3 <= len(stored) <= 768:
        raise Refusal(f"found a PNG palette of {len(stored)} bytes, expected 3 to 768, by threes")
    palette = np.frombuffer(stored, np.uint8).reshape(-1, 3)
    if indices.max() >= len(palette):
        raise Refusal(f"found entry {indices.max()} of a PNG palette of {len(palette)} colours")
    alpha = np.full(len(palette), 255, np.uint8)
    declared = np.frombuffer(chunks.kept.get(b"tRNS", b""), np.uint8)
    if len(declared) > len(palette):
        raise Refusal(f"found {len(declared)} opacities of {len(palette)} colours of a PNG palette")
    alpha[: len(declared)] = declared
    refuse_transparent(alpha[indices], 255)
    return np.moveaxis(palette[indices], -1, 0)


def _refuse_key(samples: Array, header: Header, stored: bytes) -> None:
    """Refuse pixels of the one colour that is declared transparent."""
    if len(stored) != 2 * len(samples):
        raise Refusal(f"found a transparent colour of {len(stored)} bytes in a PNG")
    largest = 2**header.depth - 1
    key = np.frombuffer(stored, ">u2").astype(np.uint16) & largest
    if header.depth < 8:
        key = key * (255 // largest)
    refuse_transparent((samples == key[:, None, None]).all(axis=0), False)
