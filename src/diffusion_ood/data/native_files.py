"""Image files that are written again as they were: format, sides, depth, channels, NIfTI header."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffusion_ood.data.formats import jpeg, nifti, png, tiff
from diffusion_ood.data.formats.npy import open_npy
from diffusion_ood.data.opening import refusing
from diffusion_ood.data.readers import ARRAY_SUFFIX, read_samples
from diffusion_ood.errors import UserError

Array = npt.NDArray[Any]
Encode = Callable[[Array], bytes]

JPEG_QUALITY = 95  # and colour in full resolution: its own losses stay below those of any fault
BYTE_RANGE = (0.0, 255.0)


@dataclass(frozen=True)
class NativeFile:
    """An image as stored, and how such a file is written.

    Attributes:
        samples: (C, *S), C = 1 or 3, in the type of the file; upright, 0 is black.
        low, high: the stored values that are 0 and 1.
        encode: samples of the same shape and type → the bytes of a file.
    """

    samples: Array
    low: float
    high: float
    encode: Encode

    @property
    def unit(self) -> npt.NDArray[np.float64]:
        """The samples from 0 to 1; 0 where all are the same."""
        return (self.samples.astype(np.float64) - self.low) / ((self.high - self.low) or 1)

    def stored(self, unit: npt.NDArray[np.float64]) -> Array:
        """Values from 0 to 1 as samples of the file, rounded and within `low` and `high`."""
        values = np.clip(self.low + unit * (self.high - self.low), self.low, self.high)
        if self.samples.dtype.kind in "ui":
            values = values.round()
        return values.astype(self.samples.dtype)


def open_native(path: Path) -> NativeFile:
    """Read a file that can be written again.

    Bytes of pictures go from 0 to 255; all other values from the image's own least to its greatest.

    Raises:
        UserError: no image, or one whose kind has no place for other values: palettes, less than 8
            bits, CMYK, complex voxels.
    """
    with refusing(path):
        return _open(path)


def _open(path: Path) -> NativeFile:
    if path.name.lower().endswith(nifti.SUFFIXES):
        samples, encode = _nifti(path)
        return _ranged(path, samples, encode, of_type=False)
    if path.name.lower().endswith(ARRAY_SUFFIX):
        return _ranged(path, *_array(path))
    samples = read_samples(path)
    start = path.read_bytes()[:26]
    if start.startswith(png.SIGNATURE):
        return _ranged(path, samples, _png(path, start))
    if start.startswith(tiff.SIGNATURES):
        return _ranged(path, samples, _tiff(path))
    kind = "JPEG" if start.startswith(jpeg.SIGNATURE) else "BMP"
    with Image.open(path, formats=(kind,)) as picture:
        mode = _known(path, picture.mode, ("L", "RGB", *["RGBA"] * (kind == "BMP")))
    grey = samples[:1] if mode == "L" else samples  # the reader gives a palette's colours
    return _ranged(path, grey, partial(_pillow, mode=mode, format=kind))


def _ranged(path: Path, samples: Array, encode: Encode, of_type: bool = True) -> NativeFile:
    if samples.size == 0:
        raise UserError(f"{path}: found an image of shape {samples.shape}, expected pixels in it")
    if samples.dtype == np.uint8 and of_type:
        return NativeFile(samples, *BYTE_RANGE, encode)
    if samples.dtype.kind not in "uif":
        raise UserError(f"{path}: found values of type {samples.dtype}, expected real numbers")
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite([low, high]).all():
        raise UserError(f"{path}: found values that are not finite, expected numbers")
    return NativeFile(samples, low, high, encode)


def _known(path: Path, found: str, known: tuple[str, ...]) -> str:
    """Refuse a kind of pixels that cannot hold other values."""
    if found not in known:
        raise UserError(
            f"{path}: found pixels of kind {found}, which cannot be written with other values, "
            f"expected {', '.join(known)}"
        )
    return found


def _channels_last(samples: Array, alpha: bool) -> Array:
    """(C, H, W) → (H, W) or (H, W, C), with an opaque channel more if the file had one."""
    if alpha:
        opaque = 1 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
        samples = np.concatenate([samples, np.full_like(samples[:1], opaque)])
    return samples[0] if len(samples) == 1 else np.ascontiguousarray(np.moveaxis(samples, 0, -1))


def _png(path: Path, start: bytes) -> Encode:
    depth, colour = start[24], start[25]
    kind = "palette" if colour == png.PALETTE else f"{depth} bits"
    _known(path, kind, ("8 bits", "16 bits"))
    return partial(_encode_png, alpha=colour in (png.GREY_ALPHA, png.RGB_ALPHA))


def _encode_png(samples: Array, alpha: bool) -> bytes:
    import imagecodecs  # takes a tenth of a second

    return bytes(imagecodecs.png_encode(_channels_last(samples, alpha)))


def _pillow(samples: Array, mode: str, format: str) -> bytes:
    file = io.BytesIO()
    quality = {"quality": JPEG_QUALITY, "subsampling": 0} if format == "JPEG" else {}
    Image.fromarray(_channels_last(samples, mode == "RGBA")).save(file, format, **quality)
    return file.getvalue()


def _tiff(path: Path) -> Encode:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        kinds = {tiff.PALETTE: "palette", tiff.CMYK: "CMYK"}
        kind = kinds.get(int(page.photometric), f"{page.bitspersample} bits")
        _known(path, kind, ("8 bits", "16 bits", "32 bits", "64 bits"))
        compression = int(page.compression)
        kept = (1, tiff.LZW, tiff.DEFLATE, tiff.OLD_DEFLATE, tiff.PACKBITS)
        return partial(
            _encode_tiff,
            alpha=bool(page.extrasamples),
            compression=compression if compression in kept else tiff.DEFLATE,  # JPEG would lose
            byteorder=file.byteorder,
        )


def _encode_tiff(samples: Array, alpha: bool, compression: int, byteorder: str) -> bytes:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(
        file,
        _channels_last(samples, alpha),
        photometric="rgb" if len(samples) == 3 else "minisblack",
        planarconfig="contig" if alpha or len(samples) == 3 else None,
        extrasamples=["unassalpha"] if alpha else None,
        compression=None if compression == 1 else compression,
        byteorder=byteorder,
        metadata=None,
        software=False,
    )
    return file.getvalue()


def _array(path: Path) -> tuple[Array, Encode]:
    """An array (*S), (*S, C) or (C, *S); where three sides may be either, one is of channels."""
    stored = read_samples(path)
    raw = open_npy(path)
    shape, last = raw.shape, raw.ndim == stored.ndim and raw.shape[-1] in (1, 3)

    def encode(samples: Array) -> bytes:
        file = io.BytesIO()
        array = np.moveaxis(samples, 0, -1) if last else samples
        np.save(file, array.reshape(shape))
        return file.getvalue()

    return stored, encode


def _nifti(path: Path) -> tuple[Array, Encode]:
    """The voxels before slope and intercept, a volume's towards right, front and head (RAS).

    All that is not voxels is written as it was found.
    """
    import nibabel
    from nibabel import orientations

    samples, start = nifti.read_stored(path)
    content = gzip.decompress(path.read_bytes()) if _is_packed(path) else path.read_bytes()
    head, tail = content[:start], content[start + samples.nbytes :]
    is_volume = samples.ndim == 3 and samples.shape[2] > 1
    as_stored = orientations.axcodes2ornt("RAS")
    axes = orientations.io_orientation(nibabel.load(path).affine) if is_volume else as_stored
    back = orientations.ornt_transform(as_stored, axes)

    def encode(changed: Array) -> bytes:
        stored = orientations.apply_orientation(changed[0], back) if is_volume else changed
        whole = head + stored.astype(samples.dtype).tobytes(order="F") + tail
        return gzip.compress(whole, mtime=0) if _is_packed(path) else whole

    if is_volume:
        return orientations.apply_orientation(samples, axes)[None], encode
    return samples.reshape(1, *samples.shape[:2], order="F"), encode


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
