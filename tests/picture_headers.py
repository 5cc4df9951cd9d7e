"""Generated PNG and TIFF files: right ones, and ones whose header says something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from raw_pictures import PNG_CHANNELS, chunk, exif, png, tiff, turned

Array = npt.NDArray[Any]
PNG_KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4)]
PNG_KINDS += [(3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]
SIDES = st.tuples(st.integers(1, 12), st.integers(1, 12))
NUMBERS = st.one_of(
    st.integers(0, 9), st.sampled_from([16, 32, 255, 256, 65_535, 2**31, 2**32 - 1])
)
KINDS = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]
# Tags that say what samples are and where they lie, and some that mean nothing here.
TAGS = [254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 284, 305, 317, 320, 322]
TAGS += [291, 323, 324, 325, 332, 336, 338, 339, 346, 433, 532, 700, 32997, 65_000]


def noise(draw: st.DrawFn, channels: int, top: int) -> Array:
    """Whole numbers from 0 to `top`, (channels, H, W)."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.integers(0, top, (channels, *draw(SIDES)), endpoint=True)


@st.composite
def png_files(draw: st.DrawFn) -> tuple[bytes, int]:
    """A PNG of any kind, perhaps with another header or a damage; and its orientation."""
    orientation = draw(st.sampled_from([1, *range(10)]))
    colour, depth = draw(st.sampled_from(PNG_KINDS))
    top = 2**depth - 1
    samples = noise(draw, PNG_CHANNELS[colour], top)
    if colour in (4, 6) and draw(st.booleans()):
        samples[-1] = top
    before = []
    if colour == 3 or draw(st.integers(0, 9)) == 0:
        count = draw(st.sampled_from([2 ** min(depth, 8), 2 ** min(depth, 8), 1, 3, 200]))
        before.append((b"PLTE", (np.arange(3 * count) * 7).astype(np.uint8).tobytes()))
    if draw(st.integers(0, 2)) == 0:
        before.append((b"tRNS", draw(st.binary(min_size=1, max_size=8))))
    if orientation != 1:
        before.append((b"eXIf", exif(orientation)))
    if draw(st.integers(0, 3)) == 0:
        before.append((draw(st.sampled_from([b"gAMA", b"acTL", b"abCd", b"ABCD"])), bytes(8)))
    content = png(
        samples,
        depth,
        colour,
        interlace=draw(st.booleans()),
        before=before,
        parts=draw(st.integers(1, 4)),
    )
    kind = draw(st.sampled_from(["whole", "whole", "header", "byte", "cut"]))
    if kind == "header":
        header = bytearray(content[16:29])
        place = draw(st.integers(0, 12))
        header[place] = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 255]))
        content = content[:8] + chunk(b"IHDR", bytes(header)) + content[33:]
    return damaged(draw, content, kind), orientation if 1 <= orientation <= 8 else 1


@st.composite
def tiff_files(draw: st.DrawFn) -> tuple[bytes, Array | None]:
    """A TIFF, and the samples that it holds where its tags say of them what is so."""
    kind = draw(st.sampled_from(KINDS))
    photometric = draw(st.sampled_from([0, 1, 1, 2, 3]))
    extra = draw(st.sampled_from([[], [], [], [1], [2], [0]])) if photometric in (1, 2) else []
    channels = (3 if photometric == 2 else 1) + len(extra)
    bits = draw(st.sampled_from([1, 2, 4, 8])) if kind == "u1" and channels == 1 else None
    samples = noise(draw, channels, 2 ** (bits or 7) - 1)
    if kind[0] == "f":
        samples = samples / 128
    elif not bits:
        samples = samples * (2 ** (8 * int(kind[1:]) - 7 - (kind[0] == "i")))
    samples = samples.astype(kind)
    tags: dict[int, Any] = {274: (3, [draw(st.sampled_from([1, 1, 1, *range(1, 9)]))])}
    if photometric == 3:
        tags[320] = (3, [257 * (v % 256) for v in range(3 * 2 ** (bits or 8))])
    compression = draw(st.sampled_from([1, 8, 32773]))
    how: dict[str, Any] = {
        "order": draw(st.sampled_from("<>")),
        "bits": bits,
        "planar": draw(st.sampled_from([1, 2])),
        "strip": draw(st.sampled_from([None, 1, 2, 5])),
        "tile": draw(st.sampled_from([None, None, (16, 16)])),
        "compression": compression,
        "predictor": draw(st.sampled_from([1, 1, 1, 2])) if not bits or bits == 8 else 1,
        "extra": extra,
        "big": draw(st.booleans()),
    }
    change = draw(st.sampled_from(["whole", "whole", "tags", "byte", "cut"]))
    if change == "tags":
        for tag in draw(st.lists(st.sampled_from(TAGS), min_size=1, max_size=3)):
            numbers = draw(st.lists(NUMBERS, min_size=1, max_size=4))
            tags[tag] = draw(st.sampled_from([None, (4, numbers)]))
    content = tiff(samples, photometric, **how, tags=tags)
    if change == "whole" and (photometric != 3 or kind == "u1"):  # else it is refused
        return content, expected(samples, photometric, bits, tags)
    return damaged(draw, content, change), None


def expected(samples: Array, photometric: int, bits: int | None, tags: dict[int, Any]) -> Array:
    """Upright (C, H, W), with black at 0, colours and few bits in their range."""
    samples = turned(samples, tags[274][1][0], inverse=True)
    if photometric == 3:
        colours = np.array(tags[320][1]).reshape(3, -1) // 257
        return colours[:, samples[0].astype(int)]
    if photometric == 0:
        top = 1 if samples.dtype.kind == "f" else 2 ** (bits or samples.dtype.itemsize * 8) - 1
        samples = top - samples.astype(float if samples.dtype.kind == "f" else np.int64)
    return samples.astype(float) * (255 // (2**bits - 1) if bits else 1)


def damaged(draw: st.DrawFn, content: bytes, kind: str) -> bytes:
    """The file with a byte of its first 300 changed, or cut off."""
    if kind == "cut":
        return content[: draw(st.integers(1, len(content) - 1))]
    if kind == "byte":
        changed = bytearray(content)
        changed[draw(st.integers(0, min(300, len(content)) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    return content
