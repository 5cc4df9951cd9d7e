"""NIfTI: volumes of three sides, and slices of two; its scaling is applied, its affine is not."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ood.data.formats.base import MAX_PIXELS, Array, Refusal, check_sides
from diffusion_ood.data.opening import Content, Source

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 1_000_000_000


def nifti_sides(source: Source, dimension: int) -> tuple[int, ...]:
    """The sides *S, from the header."""
    return tuple(_open(source, dimension).shape[:dimension])


def read_nifti(source: Source, dimension: int) -> Array:
    """The values as (1, *S), with the header's slope and intercept applied."""
    opened = _open(source, dimension)
    return np.asanyarray(opened.dataobj).reshape(1, *opened.shape[:dimension])


def read_stored(path: Path) -> tuple[Array, int]:
    """The voxels as stored, (X, Y), (X, Y, 1) or (X, Y, Z), and the byte at which they start.

    Slope and intercept are not applied.
    """
    try:
        opened = _open(path, 2)
    except Refusal:
        opened = _open(path, 3)
    return np.array(opened.dataobj.get_unscaled()), int(opened.dataobj.offset)


def _open(source: Source, dimension: int) -> Any:  # noqa: ANN401 - nibabel has no types
    """Open a file of `dimension` sides; a slice may have a third one of 1."""
    try:
        import nibabel
    except ImportError:
        raise Refusal(
            "reading NIfTI needs the package nibabel; install it or convert to NPY"
        ) from None
    opened = nibabel.load(source) if isinstance(source, Path) else _of_content(source)
    shape = tuple(map(int, opened.shape))
    if len(shape) != dimension and not (dimension == 2 and shape[2:] == (1,)):
        hint = "; see `spatial_dimension`=3" if dimension == 2 else ""
        raise Refusal(f"found an array of shape {shape}, expected {dimension} sides{hint}")
    offset, expected = opened.dataobj.offset, opened.header.single_vox_offset
    if offset < expected:  # as in the header of a pair of files under another name
        raise Refusal(f"found voxels at byte {offset}, expected {expected} or later")
    check_sides(shape[:dimension], MAX_PIXELS if dimension == 2 else MAX_VOXELS)
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
