"""Compressed frames of DICOM: what a stream declares is compared before memory is taken for it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from diffusion_ood.data.formats.base import Refusal

if TYPE_CHECKING:
    from pydicom import Dataset

JPEG_2000 = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ
JPEG = b"\xff\xd8"
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers SOF of JPEG and JPEG-LS


def check_stream(dataset: Dataset, number: int, sides: tuple[int, int]) -> None:
    """Refuse a compressed frame that declares other sides or samples than its file."""
    from pydicom.encaps import get_frame

    frames = int(dataset.get("NumberOfFrames") or 1)
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    stream = get_frame(
        dataset.PixelData,
        number,
        number_of_frames=frames,
        extended_offsets=offsets if all(offsets) else None,
    )
    found, expected = stream_sides(stream), (*sides, int(dataset.SamplesPerPixel))
    if found is not None and found != expected:
        text = (" x ".join(map(str, shape)) for shape in (found, expected))
        raise Refusal("found a compressed frame of {} samples, expected {}".format(*text))


def stream_sides(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples that a JPEG, JPEG-LS or JPEG 2000 declares; None of others.

    Raises:
        Refusal: a JPEG that declares none.
    """
    if (at := stream[:1024].find(JPEG_2000)) >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
        return bottom - top, right - left, *struct.unpack_from(">H", stream, at + 40)
    if not stream.startswith(JPEG):
        return None
    at = len(JPEG)
    while at + 10 <= len(stream) and stream[at] == 0xFF:
        if stream[at + 1] in FRAMES:
            return struct.unpack_from(">HHB", stream, at + 5)
        filled = stream[at + 1] == 0xFF
        at += 1 if filled else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    raise Refusal("found a JPEG without a frame header, expected one")
