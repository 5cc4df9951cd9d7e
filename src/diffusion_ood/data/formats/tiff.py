"""TIFF: its tags are read and checked before tifffile decodes strip by strip or tile by tile."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from diffusion_ood.data.complaints import Errors
from diffusion_ood.data.formats.base import (
    MAX_PIXELS,
    ORIENTATION,
    WHOLE_NUMBERS,
    Array,
    Picture,
    Refusal,
    agreed_orientation,
    check_sides,
    cmyk_to_rgb,
    known_orientation,
    without_alpha,
)

_ERRORS = Errors()  # tifffile's own; it leaves out tags and goes on
logging.getLogger("tifffile").addFilter(_ERRORS)

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
SAMPLES = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 5, 7, 8, 32946, 32773
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
BITS = {UNSIGNED: (1, 2, 4, 8, 16, 32), SIGNED: (8, 16, 32), FLOAT: (16, 32, 64)}
ALPHA = ((1,), (2,))  # associated and unassociated; they are the same where all is opaque

WIDTH, LENGTH, EXTRA_SAMPLES, COLOR_MAP, XMP = 256, 257, 338, 320, 700


class Tag(NamedTuple):
    """A tag's name, its value where it is absent, and the values that are tested."""

    name: str
    default: int | None
    known: Sequence[int]


TAGS = {
    254: Tag("NewSubfileType", 0, (0, 2)),
    255: Tag("SubfileType", 1, (1, 3)),
    258: Tag("BitsPerSample", 1, (1, 2, 4, 8, 16, 32, 64)),
    259: Tag("Compression", 1, (1, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS)),
    262: Tag("PhotometricInterpretation", None, tuple(SAMPLES)),
    266: Tag("FillOrder", 1, (1,)),
    277: Tag("SamplesPerPixel", 1, (1, 2, 3, 4)),
    284: Tag("PlanarConfiguration", 1, (1, 2)),
    317: Tag("Predictor", 1, (1, 2, 3)),
    332: Tag("InkSet", 1, (1,)),
    339: Tag("SampleFormat", 1, (UNSIGNED, SIGNED, FLOAT)),
    346: Tag("Indexed", 0, (0,)),
    32997: Tag("ImageDepth", 1, (1,)),
}


class Layout(NamedTuple):
    """What the tags say of the samples."""

    bits: int
    compression: int
    photometric: int
    samples: int
    planar: int
    predictor: int
    format: int
    extra: tuple[int, ...]


def open_tiff(file: BinaryIO) -> Picture:
    """Read the tags.

    Raises:
        Refusal: several pages, damaged tags, or what is not tested.
    """
    import tifffile  # takes a tenth of a second

    with _errors_refused():
        try:
            tiff = tifffile.TiffFile(file)
        except TypeError as error:  # a list of unlike numbers; the error before names the tag
            raise Refusal(f"found unlike TIFF values ({error.__context__ or error})") from None
        _refuse_frames(tiff)
        page = tiff.pages.first
        sides = _side(page, LENGTH), _side(page, WIDTH)
        check_sides(sides, MAX_PIXELS)
        if page.is_tiled:  # a tile is decoded whole
            check_sides((page.tilelength, page.tilewidth), MAX_PIXELS)
        layout = _layout(page)
        _refuse_scales(page, layout)
        orientation = _orientation(page)
    white_is_zero = layout.photometric == WHITE_IS_ZERO
    return Picture(sides, partial(_decode, file, page, layout), orientation, white_is_zero)


@contextmanager
def _errors_refused() -> Iterator[None]:
    """Refuse a file of which tifffile logs that it leaves out tags."""
    with _ERRORS.caught() as errors:
        yield
    if errors:
        raise Refusal(f"not a whole image (the TIFF is damaged: {errors[0]})")


def _refuse_frames(tiff: Any) -> None:  # noqa: ANN401 - mypy does not follow tifffile
    """Refuse several pages, also those that some programs hide behind the first."""
    frames = len(tiff.pages)
    if not frames:
        raise Refusal("found a TIFF without a page, expected one image")
    if tiff.is_imagej:
        frames = max(frames, int((tiff.imagej_metadata or {}).get("images", 1)))
        if "cf" in (tiff.imagej_metadata or {}):
            raise Refusal("found values with an ImageJ calibration, expected them without one")
    if tiff.is_shaped:
        noted = _noted_samples(tiff.pages.first.shaped_description)
        frames = max(frames, noted // max(1, math.prod(tiff.pages.first.shape)))
    if frames > 1 or tiff.is_stk:
        raise Refusal(f"found {frames} frames or pages, expected one image")


def _noted_samples(description: str) -> int:
    """The count of samples in tifffile's own note of what it wrote; 0 where it is another text."""
    try:
        if description.startswith("shape="):  # as its old versions wrote it
            return math.prod(map(int, description[7:-1].split(",")))
        return math.prod(map(int, json.loads(description)["shape"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return 0


def _numbers(page: Any, tag: int | str, default: object = None) -> tuple[Any, ...]:  # noqa: ANN401
    value = page.tags.valueof(tag, default)
    return tuple(value) if isinstance(value, tuple | bytes) else (value,)


def _value(page: Any, code: int, name: str, default: int | None) -> int:  # noqa: ANN401
    """A tag's one value; of a list, all have to be equal."""
    if len(page.tags.getall(code, ())) > 1:
        raise Refusal(f"found the TIFF tag {name} twice, expected it once")
    values = _numbers(page, code, default)
    if not values or any(v != values[0] for v in values) or not isinstance(values[0], int):
        found = ", ".join(map(str, values))
        raise Refusal(f"found {name} {found} in a TIFF, expected one number")
    return int(values[0])


def _side(page: Any, code: int) -> int:  # noqa: ANN401
    return _value(page, code, "ImageWidth" if code == WIDTH else "ImageLength", None)


def _orientation(page: Any) -> int:  # noqa: ANN401
    tag, packet = page.tags.get(ORIENTATION), page.tags.valueof(XMP)
    declared = _numbers(page, ORIENTATION)[:1] if tag and tag.dtype in WHOLE_NUMBERS else ()
    others = [packet] if isinstance(packet, bytes) else []
    return agreed_orientation(known_orientation(*declared or (1,)), others)


def _refuse_scales(page: Any, layout: Layout) -> None:  # noqa: ANN401
    """Refuse tags that map samples to other values, unless it is to the usual ones."""
    top = 2**layout.bits - 1
    usual = (0, 1, top, 1)  # two fractions
    chroma = (top // 2 + 1, 1, top, 1) if layout.photometric == YCBCR else usual
    scales: dict[str, tuple[tuple[int, ...], ...]] = {
        "GrayResponseCurve": (),
        "DotRange": ((0, top), (0, top) * layout.samples),
        "Decode": (),
        "ReferenceBlackWhite": (usual + chroma * 2,),
    }
    for name, known in scales.items():
        if name in page.tags and _numbers(page, name) not in known:
            raise Refusal(f"found the TIFF tag {name} with values that are not applied")


def _layout(page: Any) -> Layout:  # noqa: ANN401
    values = {code: _value(page, code, tag.name, tag.default) for code, tag in TAGS.items()}
    for code, tag in TAGS.items():
        if values[code] not in tag.known:
            known = ", ".join(map(str, tag.known))
            raise Refusal(f"found {tag.name} {values[code]} in a TIFF, expected one of {known}")
    layout = Layout(
        bits=values[258],
        compression=values[259],
        photometric=values[262],
        samples=values[277],
        planar=values[284],
        predictor=values[317],
        format=values[339],
        extra=tuple(map(int, _numbers(page, EXTRA_SAMPLES, ()))),
    )
    if not _tested(layout):
        raise Refusal(f"found TIFF tags together that are not tested so, {str(layout)[6:]}")
    return layout


def _tested(layout: Layout) -> bool:
    """Whether the tests have this combination of tags, or one that it is made of."""
    unsigned = layout.format == UNSIGNED
    grey_or_palette = layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE)
    bits = layout.bits in BITS[layout.format] and (layout.bits >= 8 or grey_or_palette)
    count = layout.samples == SAMPLES[layout.photometric] + len(layout.extra)
    extra = not layout.extra or (
        layout.extra in ALPHA
        and layout.photometric in (BLACK_IS_ZERO, RGB)
        and layout.format != SIGNED
        and layout.bits >= 8
    )
    colour = {
        WHITE_IS_ZERO: layout.format != SIGNED,
        PALETTE: unsigned and layout.bits <= 8,
        CMYK: unsigned and layout.bits == 8,
        YCBCR: layout.compression == JPEG,
    }.get(layout.photometric, True)
    jpeg = layout.compression != JPEG or (
        layout.photometric in (BLACK_IS_ZERO, YCBCR)
        and (unsigned, layout.bits, layout.planar) == (True, 8, 1)
        and not layout.extra
    )
    predictor = layout.predictor == 1 or (
        layout.compression in (LZW, DEFLATE, OLD_DEFLATE)
        and (layout.predictor == 3) == (layout.format == FLOAT)
        and layout.bits >= 8
    )
    return bits and count and extra and colour and jpeg and predictor


def _decode(file: BinaryIO, page: Any, layout: Layout) -> Array:  # noqa: ANN401
    with _errors_refused():
        samples = _samples(file, page)
    if layout.photometric == PALETTE:
        return _coloured(samples[0], page, layout)
    if layout.bits < 8:
        samples = samples.astype(np.uint8) * np.uint8(255 // (2**layout.bits - 1))
    if layout.photometric == CMYK:
        return cmyk_to_rgb(samples)
    return without_alpha(samples) if layout.extra else samples


def _samples(file: BinaryIO, page: Any) -> Array:  # noqa: ANN401
    """Every sample as stored, (C, H, W); a strip or tile that is not whole is refused.

    `TiffPage.asarray` would fill what is missing with zeros.
    """
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(places) != math.prod(page.chunked):
        raise Refusal(f"found {len(places)} strips in a TIFF, expected {math.prod(page.chunked)}")
    samples = np.empty(page.shaped, page.dtype)  # (planes, depth, H, W, samples of a plane)
    height, width = samples.shape[2:4]
    for index, (start, length) in enumerate(places):
        file.seek(start)
        stored = file.read(length)
        if len(stored) < length or not length:
            raise Refusal("not a whole image (the TIFF ends early)")
        data, (plane, _, top, left, _), shape = page.decode(
            stored, index, jpegtables=page.jpegtables
        )
        if data.shape != shape:
            raise Refusal(f"not a whole image (a strip of {data.shape} samples, not {shape})")
        rows = data[0, : height - top, : width - left]
        samples[plane, 0, top : top + len(rows), left : left + rows.shape[1]] = rows
    return samples[:, 0].transpose(0, 3, 1, 2).reshape(-1, height, width)


def _coloured(indices: Array, page: Any, layout: Layout) -> Array:  # noqa: ANN401
    """(H, W) of entries → their colours, (3, H, W); uint8 where the map's 16 bits hold no more."""
    colours = np.asarray(page.tags.valueof(COLOR_MAP))
    if colours.shape != (3, 2**layout.bits) or colours.dtype.itemsize != 2:
        raise Refusal(f"found a TIFF colour map of shape {colours.shape}, expected 3 by 2^bits")
    colours = colours.astype(np.uint16)
    high = colours >> 8
    if colours.max() < 256:  # written as numbers of 8 bits, as libtiff takes them too
        colours = colours.astype(np.uint8)
    elif (colours == high * 257).all() or (colours == high << 8).all():
        colours = high.astype(np.uint8)
    return colours[:, indices.astype(np.uint8)]
