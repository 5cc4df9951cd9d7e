"""All images of a split in one memory-mapped file, decoded once.

The file lies in `.cache` beside the split and is named by a digest of everything that its content
follows from: the paths, the options, and every source file's size and time of change. So there is
nothing to invalidate; a file that no longer fits is simply not found, and removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffusion_ood.data.decoding import Decoded, NotBytes, Skipped, decode, located
from diffusion_ood.data.readers import Array, file_status
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.files import atomic_write, write_json

FORMAT_VERSION = 1
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Packed:
    """The decoded images of a split.

    Attributes:
        images: (N, C, *S), stored uint8 values or float32 in [0, 1], without the skipped ones.
        native_sizes: the distinct sides of the source files, sorted.
        skipped: the images of the split that are left out.
    """

    images: Array
    native_sizes: tuple[tuple[int, ...], ...]
    skipped: Skipped


def open_packed(
    split: Split,
    options: ImageOptions,
    num_workers: int,
    *,
    skip: bool = False,
    progress: bool = True,
) -> Packed | None:
    """Open the packed images of a split, packing them first if need be; None: nowhere to write.

    Raises:
        UserError: without `skip`, an image that cannot be read or whose size is not the others'.
    """
    key = _key(split, options, skip)
    folder = _folder(split)
    if folder is None:
        _say(f"no folder can be written to; the images of {split.path} are not packed", progress)
        return None
    path = folder / f"{key['digest']}.npy"
    found = _load(path)
    if found is not None and not _can_be_read_now(found, split, options):
        if found.skipped and not skip:
            raise located(split, *next(iter(found.skipped.items())))
        return found
    try:
        _build(path, key, split, options, num_workers, skip, progress)
    except OSError as error:  # the disk is full, say
        with contextlib.suppress(OSError):
            path.unlink()  # without its record it would only take room
        _say(f"{path} cannot be written ({error.strerror}); the images are not packed", progress)
        return None
    _remove_stale(folder, key)
    return _load(path)


def _say(sentence: str, progress: bool) -> None:
    if progress:
        print(sentence)


def _key(split: Split, options: ImageOptions, skip: bool) -> dict[str, Any]:
    """What a packed file is recognised by; `digest` covers the rest and the source files."""
    content = hashlib.sha256(repr((FORMAT_VERSION, split.images, astuple(options))).encode())
    key = {
        "split": split.path.name,
        "changed": split.path.stat().st_mtime_ns if split.path.exists() else 0,
        "content": content.hexdigest(),
    }
    content.update(repr(_stamps(split, skip)).encode())
    return {**key, "digest": content.hexdigest()}


def _stamps(split: Split, skip: bool) -> list[tuple[int, int] | None]:
    """Size and time of change of every source file; None for one to skip."""
    stamps: list[tuple[int, int] | None] = []
    for index in range(len(split)):
        try:
            status = file_status(split.image_path(index))
        except UserError as error:
            if not skip:
                raise located(split, index, error) from None
            stamps.append(None)
        else:
            stamps.append((status.st_size, status.st_mtime_ns))
    return stamps


def _folder(split: Split) -> Path | None:
    """Where packed files go: beside the split, else in the user's cache folder, else nowhere."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    beside = hashlib.sha256(str(split.path.parent.resolve()).encode()).hexdigest()[:16]
    for folder in (split.path.parent / ".cache", home / "diffusion_ood" / beside):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return None


def _load(path: Path) -> Packed | None:
    """The packed file if it is there and whole."""
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if [list(images.shape), str(images.dtype)] != [record["shape"], record["dtype"]]:
        return None
    return Packed(
        images, tuple(map(tuple, record["native_sizes"])), dict(record.get("skipped", ()))
    )


def _can_be_read_now(packed: Packed, split: Split, options: ImageOptions) -> bool:
    """Whether a skipped image can: what forbade it need not have changed the file."""
    if not packed.skipped:
        return False
    images = Decoded(split, options)
    items = (images[index] for index in packed.skipped)
    shape = packed.images.shape[1:]
    return any(not isinstance(item, UserError) and item[0].shape == shape for item in items)


def _build(
    path: Path,
    key: dict[str, Any],
    split: Split,
    options: ImageOptions,
    num_workers: int,
    skip: bool,
    progress: bool,
) -> None:
    """Decode every image into `path`, as bytes if all are stored so; the record is written last.

    Two processes that build at the same time write the same bytes to files of their own, and the
    second one's take the first one's place.
    """
    title = "packing" if progress else ""
    keep_bytes = options.image_size is None
    try:
        images = Decoded(split, options, keep_bytes=keep_bytes)
        record = _write(path, images, num_workers, skip, title)
    except NotBytes:
        record = _write(path, Decoded(split, options), num_workers, skip, title)
    write_json(path.with_suffix(".json"), {**key, **record})


def _write(path: Path, images: Decoded, num_workers: int, skip: bool, title: str) -> dict[str, Any]:
    """Write all images to `path`; their shape, type, the sizes of their files, what is skipped."""
    skipped: Skipped = {}
    sizes = set()
    count = 0
    with atomic_write(path, "wb") as file:
        for image, size in decode(images, num_workers, skipped if skip else None, title):
            if not count:
                shape, dtype = image.shape, image.dtype
                _write_header(file, (len(images), *shape), dtype)
            file.write(image.tobytes())
            sizes.add(tuple(size))
            count += 1
        if skipped:
            file.seek(0)
            _write_header(file, (count, *shape), dtype)
    return {
        "shape": [count, *shape],
        "dtype": str(dtype),
        "native_sizes": sorted(sizes),
        "skipped": list(skipped.items()),
    }


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """The header of an NPY file, so that the images can follow one by one.

    NumPy leaves room for more digits of the first side, so that it can be written again.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


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
