"""What all picture formats share: sides, orientation, polarity, transparency, refusals."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]

# Far above any image a diffusion model sees, and below what a small machine can hold.
MAX_PIXELS = 100_000_000

ORIENTATION = 274  # the tag of TIFF 6.0, which EXIF takes over
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF's types of values
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|[^<>]{0,99}>)\s*(\d+)")


class Refusal(Exception):
    """What was found in a file and what was expected; the reader names the file."""


@dataclass(frozen=True)
class Picture:
    """A picture as its file declares it.

    Attributes:
        stored_sides: (H, W) as the rows lie in the file.
        decode: reads the samples as stored, (C, H, W), C = 1 or 3.
        orientation: 1 to 8 as in TIFF 6.0, where 1 is upright.
        white_is_zero: whether 0 means white.
        unranged: why the user has to say which values mean black and white; empty where the type
            of the samples tells it.
    """

    stored_sides: tuple[int, int]
    decode: Callable[[], Array]
    orientation: int = 1
    white_is_zero: bool = False
    unranged: str = ""

    @property
    def sides(self) -> tuple[int, int]:
        """(H, W) of the upright picture."""
        height, width = self.stored_sides
        return (width, height) if self.orientation > 4 else (height, width)

    def read(self, *, ranged: bool) -> Array:
        """The upright picture, (C, H, W), where 0 means black.

        Args:
            ranged: whether the user says which values mean black and white.

        Raises:
            Refusal: pixels that the file does not hold, or whose meaning it does not tell.
        """
        if self.unranged and not ranged:
            raise Refusal(self.unranged)
        samples = self.decode()
        if self.white_is_zero:
            samples = _black_is_zero(samples, ranged=ranged)
        return _upright(samples, self.orientation)


def check_sides(sides: Sequence[int], limit: int) -> None:
    """Refuse an image without pixels or with more than `limit`, before memory is taken for it."""
    found = " x ".join(map(str, sides))
    if min(sides) < 1:
        raise Refusal(f"found {found} pixels, expected an image of at least one")
    count = int(np.prod([int(side) for side in sides], dtype=object))
    if count > limit:
        raise Refusal(f"found {found} pixels, {count} in all, expected at most {limit}")


def known_orientation(value: object) -> int:
    """1 to 8; anything else, as the 0 of some cameras for "unknown", is upright."""
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def agreed_orientation(declared: int, others: Iterable[bytes]) -> int:
    """The orientation of a file's own tag, where no other block of EXIF or XMP turns otherwise."""
    for other in map(block_orientation, others):
        if other not in (1, declared):
            raise Refusal(f"found orientation {other} beside the tag's {declared}, expected one")
    return declared


def block_orientation(block: bytes) -> int:
    """The orientation that EXIF declares in its first directory, or XMP; without one, 1."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        found = XMP_ORIENTATION.search(block)
        return known_orientation(int(found[1][:9])) if found else 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", block, at)
        if tag == ORIENTATION:
            size = WHOLE_NUMBERS.get(kind)
            value = struct.unpack_from(f"{order}{size}", block, at + 8)[0] if size else None
            return known_orientation(value)
    return 1


def without_alpha(samples: Array) -> Array:
    """(C + 1, H, W) with the alpha channel last → (C, H, W), where all is opaque."""
    refuse_transparent(samples[-1], 1 if samples.dtype.kind == "f" else _largest(samples))
    return samples[:-1]


def refuse_transparent(alpha: Array, opaque: float) -> None:
    """Refuse an alpha that is not `opaque` everywhere: what shows behind it is not known."""
    if (alpha != opaque).any():
        raise Refusal("found transparent pixels, expected an opaque image")


def cmyk_to_rgb(samples: Array) -> Array:
    """(4, H, W) of ink, uint8 → (3, H, W) of light: (255 - ink)(255 - black) / 255."""
    sides = samples.shape[2], samples.shape[1]
    picture = Image.frombytes("CMYK", sides, np.moveaxis(samples, 0, -1).tobytes())
    return np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)


def channels_first(picture: Image.Image) -> Array:
    """Pillow's samples as (C, H, W)."""
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _largest(samples: Array) -> int:
    return int(np.iinfo(samples.dtype).max)


def _black_is_zero(samples: Array, *, ranged: bool) -> Array:
    if samples.dtype.kind == "u":
        return _largest(samples) - samples
    if samples.dtype.kind == "f" and not ranged:  # between 0 and 1, or else refused afterwards
        return 1 - samples
    raise Refusal(
        f"found values of type {samples.dtype} of which 0 means white, expected 0 to mean black"
    )


def _upright(samples: Array, orientation: int) -> Array:
    """(C, H, W) as stored → as it is to be seen (TIFF 6.0, page 36)."""
    if orientation > 4:
        samples = samples.transpose(0, 2, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[:, ::-1]
    return samples
