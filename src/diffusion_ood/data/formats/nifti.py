"""NIfTI: volumes of three axes, of four with channels, and slices; its scaling is applied."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ood.data.formats.base import MAX_PIXELS, Array, Refusal, check_sides
from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.opening import Content, Source

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 1_000_000_000
MILLIMETRES = {1: 1e3, 3: 1e-3}
"""Of a metre and a micrometre, by their codes in `xyzt_units`; nibabel's affine is in that unit."""
DEFLATE = 1032
"""Times at most that what is packed by gzip grows."""


def open_nifti(source: Source) -> Volume:
    """A volume, of which nothing but the header is read."""
    opened = _open(source)
    shape = tuple(map(int, opened.shape))
    if len(shape) not in (3, 4):
        raise Refusal(f"found an array of shape {shape}, expected 3 sides, or 4 with channels last")
    check_sides(shape[:3], MAX_VOXELS)
    affine = np.diag([*[MILLIMETRES.get(int(opened.header["xyzt_units"]) & 7, 1.0)] * 3, 1])
    return Volume(shape, affine @ opened.affine, lambda box: _values(source, opened, box))


def slice_sides(source: Source) -> tuple[int, ...]:
    """The sides (X, Y) of a file that is one slice, from the header."""
    return tuple(map(int, _open_slice(source).shape[:2]))


def read_slice(source: Source) -> Array:
    """The values (1, X, Y) of a file that is one slice, as they lie, whatever its affine."""
    opened = _open_slice(source)
    return _values(source, opened, ...).reshape(1, *opened.shape[:2])


def read_stored(path: Path) -> tuple[Array, int]:
    """The voxels as stored, (X, Y), (X, Y, 1) or (X, Y, Z), and the byte at which they start.

    Slope and intercept are not applied.
    """
    opened = _open(path)
    shape = tuple(map(int, opened.shape))
    if len(shape) not in (2, 3):
        raise Refusal(f"found an array of shape {shape}, expected 2 or 3 sides")
    check_sides(shape, MAX_VOXELS)
    return np.array(opened.dataobj.get_unscaled()), int(opened.dataobj.offset)


def _open_slice(source: Source) -> Any:  # noqa: ANN401 - nibabel has no types
    opened = _open(source)
    shape = tuple(map(int, opened.shape))
    if len(shape) != 2 and shape[2:] != (1,):
        raise Refusal(
            f"found an array of shape {shape}, expected 2 sides; see `spatial_dimension`=3"
        )
    check_sides(shape[:2], MAX_PIXELS)
    return opened


def _values(source: Source, opened: Any, box: Any) -> Array:  # noqa: ANN401 - nibabel has no types
    """The values of a box; raises at a packed file's wrong checksum, which nibabel never reads."""
    values = np.asanyarray(opened.dataobj[box])
    if source.name.lower().endswith(".gz"):
        with source.open("rb") as packed, gzip.open(packed) as file:
            while file.read(1 << 20):
                pass
    return values


def _open(source: Source) -> Any:  # noqa: ANN401 - nibabel has no types
    import nibabel  # takes a quarter of a second

    opened = nibabel.load(source) if isinstance(source, Path) else _of_content(source)
    offset, expected = opened.dataobj.offset, opened.header.single_vox_offset
    if offset < expected:  # as in the header of a pair of files under another name
        raise Refusal(f"found voxels at byte {offset}, expected {expected} or later")
    size = source.stat().st_size if isinstance(source, Path) else len(source.data)
    least = offset + math.prod(map(int, opened.shape)) * opened.dataobj.dtype.itemsize
    if least > DEFLATE * size:  # packed or not, before memory is taken for what is not there
        raise Refusal(f"found {size:,} bytes, expected voxels of {least:,} in them")
    return opened


def _of_content(content: Content) -> Any:  # noqa: ANN401 - nibabel has no types
    """The image of a file that is in memory: NIfTI-1, or NIfTI-2 by the length of its header."""
    import nibabel

    packed = content.name.lower().endswith(".gz")
    file = gzip.GzipFile(fileobj=content.open("rb")) if packed else content.open("rb")
    length = file.read(4)
    file.seek(0)
    second = any(int.from_bytes(length, order) == 540 for order in ("little", "big"))
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    return kind.from_stream(file)
