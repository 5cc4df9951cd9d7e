"""JPEG: its markers say what is decoded; Pillow (libjpeg) decodes."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, NamedTuple

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
    cmyk_to_rgb,
)

SIGNATURE = b"\xff\xd8\xff"
SOI, EOI, SOS, APP1, APP14 = 0xD8, 0xD9, 0xDA, 0xE1, 0xEE
PASSED_OVER = {0x00, 0x01, *range(0xD0, 0xD8)}  # a byte of data, and markers without content
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
DECODED = {0xC0, 0xC1, 0xC2}  # Huffman-coded: baseline, extended, progressive
NEXT_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # those passed over left out
ANOTHER = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
MODES = {1: "L", 3: "RGB", 4: "CMYK"}


class Frame(NamedTuple):
    """What the markers before the first scan declare."""

    height: int
    width: int
    components: int
    orientation: int


def open_jpeg(file: BinaryIO) -> Picture:
    """Read the markers before the pixels.

    Raises:
        Refusal: what is not tested.
    """
    frame = _frame(file)
    check_sides((frame.height, frame.width), MAX_PIXELS)
    file.seek(0)
    picture = Image.open(file, formats=("JPEG",))
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise Refusal(f"found {frames} frames or pages, expected one image")
    if picture.size != (frame.width, frame.height) or picture.mode != MODES[frame.components]:
        raise Refusal(f"found {picture.mode} of {picture.size}, expected {frame}")
    sides = frame.height, frame.width
    return Picture(sides, partial(_decode, file, picture), frame.orientation)


def _decode(file: BinaryIO, picture: Image.Image) -> Array:
    _refuse_another(file)
    samples = channels_first(picture)
    return cmyk_to_rgb(samples) if len(samples) == 4 else samples


def _refuse_another(file: BinaryIO) -> None:
    """Refuse a second picture behind the first, which decoders leave out; not other bytes."""
    file.seek(2)
    content, at = file.read(), 0
    while (found := NEXT_MARKER.search(content, at)) and found[1][0] not in (SOI, EOI):
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    if found and ANOTHER.search(content, found.start()):
        raise Refusal("found a second picture behind the first in a JPEG, expected one image")


def _frame(file: BinaryIO) -> Frame:
    frame, blocks, adobe = b"", [], False
    for marker, body in _segments(file):
        if marker in FRAMES - DECODED:
            raise Refusal(f"found a JPEG of process SOF{marker - 0xC0}, expected 0 to 2")
        if marker in DECODED:
            if frame:
                raise Refusal("found two frames in a JPEG, expected one")
            frame = body
        elif marker == APP1:
            blocks.append(body)
        elif marker == APP14 and body.startswith(b"Adobe"):
            adobe = True
    if len(frame) < 6:
        raise Refusal("not a whole image (the JPEG has no frame)")
    depth, height, width, components = struct.unpack(">BHHB", frame[:6])
    if depth != 8:
        raise Refusal(f"found a JPEG of {depth} bits, expected 8")
    if components not in MODES or (components == 4 and not adobe):
        found = f"{components} components" + ("" if adobe else " without Adobe's marker")
        raise Refusal(f"found a JPEG of {found}, expected grey, colour, or CMYK with it")
    exif = next((block for block in blocks if block.startswith(b"Exif\0\0")), b"")
    orientation = agreed_orientation(block_orientation(exif), blocks)
    return Frame(height, width, components, orientation)


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The markers before the first scan, each with its content."""
    file.seek(2)
    while (marker := _marker(file)) not in (SOI, EOI, SOS):
        (length,) = struct.unpack(">H", _read(file, 2))
        yield marker, _read(file, max(0, length - 2))


def _marker(file: BinaryIO) -> int:
    """The next marker; decoders pass over other bytes before it, and over those without content."""
    code = 0
    while code in PASSED_OVER:
        while _read(file, 1) != b"\xff":
            pass
        code = 0xFF
        while code == 0xFF:
            code = _read(file, 1)[0]
    return code


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise Refusal("not a whole image (the JPEG ends early)")
    return content
