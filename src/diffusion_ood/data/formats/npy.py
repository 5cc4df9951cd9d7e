"""NPY: the array that a file holds, where it lies; nothing is unpickled."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import numpy as np

from diffusion_ood.data.formats.base import Array, Refusal
from diffusion_ood.data.opening import Source

# NumPy parses headers by `ast`, which in Python 3.11 fails in two threads at once (gh-106905).
_PARSING = threading.Lock()

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open_npy(source: Source) -> Array:
    """The array of a file; what a header declares takes no memory."""
    if isinstance(source, Path):
        with _PARSING:
            return np.load(source, mmap_mode="r", allow_pickle=False)
    file = source.open("rb")
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise Refusal(f"found version {version} of NPY, expected (1, 0) or (2, 0)")
    with _PARSING:
        shape, fortran, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise Refusal("found Python objects in an NPY file, expected numbers")
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.ndarray(shape, dtype, source.data, file.tell(), order=order)
