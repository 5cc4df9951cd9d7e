"""The IDX format of MNIST and of the sets made in its image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diffusion_ood.data.sources.base import (
    Part,
    Parts,
    Pixels,
    Place,
    RawFiles,
    Source,
    find_files,
    open_maybe_gzip,
)
from diffusion_ood.data.sources.download import download
from diffusion_ood.errors import UserError

PREFIXES: dict[Part, str] = {"train": "train", "test": "t10k"}
FILES = tuple(
    f"{prefix}-{kind}-ubyte"
    for prefix in PREFIXES.values()
    for kind in ("images-idx3", "labels-idx1")
)
UNSIGNED_BYTE = 8


def idx_source(url: str, md5: Sequence[str], sha256: Sequence[str]) -> Source:
    """A data set of four IDX files, plain or gzipped: 60,000 and 10,000 images of 28 x 28.

    Args:
        url: the folder that the `.gz` files are published in.
        md5: of the `.gz` files there, in the order of `FILES`.
        sha256: of the plain files, in the same order.
    """
    return Source(
        find=partial(find_files, names=FILES),
        fetch=partial(_fetch, url=url, md5=md5),
        read=_read,
        counts={"train": 60_000, "test": 10_000},
        digests=dict(zip(FILES, sha256, strict=True)),
        is_grayscale=True,
    )


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: 0, 0, 8, number of axes, each side as a big-endian int32.

    Raises:
        UserError: it is no such file, or not a whole one.
    """
    try:
        with open_maybe_gzip(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read whole ({error})") from None
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise UserError(f"{path}: found {content[:4].hex()!r} first, expected an IDX file of bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], dtype=">i4").tolist())
    values = np.frombuffer(content, dtype=np.uint8, offset=min(start, len(content)))
    if len(values) != np.prod(shape, dtype=np.int64):
        raise UserError(f"{path}: found {len(values)} values, expected those of shape {shape}")
    return values.reshape(shape)


def _fetch(place: Place, url: str, md5: Sequence[str]) -> RawFiles:
    for name, expected in zip(FILES, md5, strict=True):
        download(place, f"{url}{name}.gz", f"{name}.gz", expected, FILES)
    found = find_files(place, FILES)
    assert found is not None, "the files have just been downloaded"
    return found


def _read(raw: RawFiles, seed: int) -> Parts:
    parts: dict[Part, Pixels] = {}
    for part, prefix in PREFIXES.items():
        images = read_idx(raw[f"{prefix}-images-idx3-ubyte"])
        labels = read_idx(raw[f"{prefix}-labels-idx1-ubyte"])
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(
                f"{raw[f'{prefix}-images-idx3-ubyte']}: found shape {images.shape} with labels of "
                f"shape {labels.shape}, expected one label an image"
            )
        parts[part] = Pixels(images, [str(label) for label in labels])
    return parts
