"""All images of a split in one memory-mapped file, decoded once.

The file lies in `.cache` beside the split and is named by a digest of everything that its content
follows from: the paths, the options, and the digest of every source file. So nothing has to be
invalidated: an outdated file is not found, and is removed when a new one is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ood.data.decoding import DecodedImages, NotBytes, decode
from diffusion_ood.data.formats.npy import open_npy
from diffusion_ood.data.intensity import Intensity, measure_intensity
from diffusion_ood.data.readers import Array
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.files import atomic_write, write_json

FORMAT_VERSION = 2
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Packed:
    """The decoded images of a split.

    Attributes:
        images: (N, C, *S), stored uint8 values or float32 in [0, 1].
        native_sizes: the distinct sides of the source files, sorted.
        intensity: the values that they are stored with.
    """

    images: Array
    native_sizes: tuple[tuple[int, ...], ...]
    intensity: Intensity


def open_packed(
    split: Split,
    digests: Sequence[str],
    options: ImageOptions,
    folder: Path,
    num_workers: int,
    *,
    progress: bool = True,
) -> Packed | None:
    """Open the packed images of a split, packing them first if needed; None: no room to write.

    Args:
        split: which images.
        digests: of the source files, see `contents`.
        options: how a file becomes an array.
        folder: see `cache_folder`.
        num_workers: processes that decode images.
        progress: print a progress bar, and why nothing is packed.

    Raises:
        UserError: an image that cannot be read, or whose size differs from that of the others.
    """
    key = _key(split, digests, options)
    path = folder / f"{key['digest']}.npy"
    found = _load(path, len(split))
    if found is not None:
        return found
    try:
        _build(path, key, split, options, num_workers, progress)
    except OSError as error:  # the disk is full, say
        with contextlib.suppress(OSError):
            path.unlink()  # without its record it would only take room
        if progress:
            print(f"{path} cannot be written ({error.strerror}); the images are not packed")
        return None
    _remove_stale(folder, key)
    return _load(path, len(split))


def cache_folder(split: Split) -> Path | None:
    """Where what is known of a split's files is kept: beside it, in the user's cache, or not."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    beside = hashlib.sha256(os.fsencode(split.path.parent.resolve())).hexdigest()[:16]
    for folder in (split.path.parent / ".cache", home / "diffusion_ood" / beside):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return None


def _key(split: Split, digests: Sequence[str], options: ImageOptions) -> dict[str, Any]:
    """What a packed file is recognised by; `digest` covers the rest and the source files."""
    content = hashlib.sha256(repr((FORMAT_VERSION, split.images, astuple(options))).encode())
    key = {
        "split": split.path.name,
        "changed": split.path.stat().st_mtime_ns if split.path.exists() else 0,
        "content": content.hexdigest(),
    }
    content.update(repr(digests).encode())
    return {**key, "digest": content.hexdigest()}


def _load(path: Path, count: int) -> Packed | None:
    """The packed file if it is there, whole, and holds as many images."""
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        images = open_npy(path)
    except (OSError, ValueError, EOFError):
        return None
    if [list(images.shape), str(images.dtype)] != [record["shape"], record["dtype"]]:
        return None
    if len(images) != count:  # an earlier version left out what it could not read
        return None
    sizes = tuple(map(tuple, record["native_sizes"]))
    return Packed(images, sizes, Intensity(**record["intensity"]))


def _build(
    path: Path,
    key: dict[str, Any],
    split: Split,
    options: ImageOptions,
    num_workers: int,
    progress: bool,
) -> None:
    """Decode every image into `path`, as bytes if all are stored so; the record is written last.

    Two processes that build at the same time write the same bytes to files of their own, and the
    second one's take the first one's place.
    """
    title = "packing" if progress else ""
    keep_bytes = options.image_size is None
    try:
        images = DecodedImages(split, options, keep_bytes=keep_bytes)
        record = _write(path, images, num_workers, title)
    except NotBytes:
        record = _write(path, DecodedImages(split, options), num_workers, title)
    record["intensity"] = measure_intensity(split, options).as_json()
    write_json(path.with_suffix(".json"), {**key, **record})


def _write(path: Path, images: DecodedImages, num_workers: int, title: str) -> dict[str, Any]:
    """Write all images to `path` as they come; their shape, type and the sizes of their files."""
    sizes = set()
    with atomic_write(path, "wb") as file:
        for index, item in enumerate(decode(images, num_workers, title)):
            if isinstance(item, UserError):
                raise item if isinstance(item, NotBytes) else images.split.error(index, item)
            image, size = item
            if index == 0:
                shape, dtype = (len(images), *image.shape), image.dtype
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(image.tobytes())
            sizes.add(tuple(size))
    return {"shape": shape, "dtype": str(dtype), "native_sizes": sorted(sizes)}


def _remove_stale(folder: Path, key: dict[str, Any]) -> None:
    """Remove what an earlier state of this split left, and what killed processes left."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            other = json.loads(path.read_text(encoding="utf-8"))
            if other["split"] != key["split"] or other["digest"] == key["digest"]:
                continue
            if other["changed"] != key["changed"] or other["content"] == key["content"]:
                path.unlink()
                path.with_suffix(".npy").unlink()
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                path.unlink()
