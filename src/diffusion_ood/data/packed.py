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
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from diffusion_ood.data.readers import Array, read_image
from diffusion_ood.data.splits import Split
from diffusion_ood.data.transforms import preparation
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.files import atomic_write, write_json
from diffusion_ood.runtime.imports import without_deprecation_notices

with without_deprecation_notices():
    from monai.data.dataset import Dataset

FORMAT_VERSION = 1
CHUNK_BYTES = 8 << 20  # what a worker hands over at a time
CHUNK_IMAGES = 256
DAY = 24 * 60 * 60

Item = tuple[torch.Tensor, tuple[int, ...]]


@dataclass(frozen=True)
class Packed:
    """The decoded images of a split.

    Attributes:
        images: (N, C, *S), stored uint8 values or float32 in [0, 1].
        native_sizes: the distinct sides of the source files, sorted.
    """

    images: Array
    native_sizes: tuple[tuple[int, ...], ...]


class Decoded(Dataset):
    """Image i of a split as a pair: the prepared tensor (C, *S) and the file's own sides.

    What a user has to mend comes as a value, a `UserError`: raised in a worker process, it would
    arrive with that process's traceback in its message.
    """

    def __init__(self, split: Split, options: ImageOptions, *, keep_bytes: bool = False) -> None:
        paths = [split.image_path(i) for i in range(len(split))]
        super().__init__(paths, preparation(options, keep_bytes=keep_bytes))
        self.options = options
        self.keep_bytes = keep_bytes

    def _transform(self, index: int) -> Item | UserError:
        try:
            stored = read_image(self.data[index], self.options)
        except UserError as error:
            return error
        if self.keep_bytes and stored.dtype != np.uint8:
            return _NotBytes()
        return self.transform(stored), stored.shape[1:]


class _NotBytes(UserError):
    """Not every image of the split is stored in bytes; the caller packs floats instead."""


def size_mismatch(path: Path, found: Sequence[int], first: Path, expected: Sequence[int]) -> str:
    """The sentence about the first image whose size is not the others'."""
    found_text, expected_text = (" x ".join(map(str, sides)) for sides in (found, expected))
    return (
        f"{path}: found {found_text} pixels, expected {expected_text} as in {first}; "
        "give --image_size or --image_roi to make them equal"
    )


def open_packed(
    split: Split, options: ImageOptions, num_workers: int, *, progress: bool = True
) -> Packed | None:
    """Open the packed images of a split, packing them first if need be; None: nowhere to write.

    Raises:
        UserError: an image that cannot be read, or whose size is not the others'.
    """
    key = _key(split, options)
    folder = _folder(split)
    if folder is None:
        _say(f"no folder can be written to; the images of {split.path} are not packed", progress)
        return None
    path = folder / f"{key['digest']}.npy"
    found = _load(path)
    if found is not None:
        return found
    try:
        _build(path, key, split, options, num_workers, progress)
    except OSError as error:  # the disk is full, say
        _say(f"{path} cannot be written ({error.strerror}); the images are not packed", progress)
        return None
    _remove_stale(folder, key)
    return _load(path)


def _say(sentence: str, progress: bool) -> None:
    if progress:
        print(sentence)


def _key(split: Split, options: ImageOptions) -> dict[str, Any]:
    """What a packed file is recognised by; `digest` covers the rest and the source files."""
    content = hashlib.sha256(repr((FORMAT_VERSION, split.images, astuple(options))).encode())
    key = {
        "split": split.path.name,
        "changed": split.path.stat().st_mtime_ns if split.path.exists() else 0,
        "content": content.hexdigest(),
    }
    content.update(repr(_stamps(split)).encode())
    return {**key, "digest": content.hexdigest()}


def _stamps(split: Split) -> list[tuple[int, int]]:
    """Size and time of change of every source file."""
    stamps = []
    folder = str(split.root or split.path.parent)
    for number, image in enumerate(split.images, start=1):
        try:
            status = os.stat(os.path.join(folder, image))
        except OSError:
            raise UserError(f"{split.path}, image {number}: no such file, {image}") from None
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
    return Packed(images, tuple(map(tuple, record["native_sizes"])))


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
    first = read_image(split.image_path(0), options)
    keep_bytes = first.dtype == np.uint8 and options.image_size is None
    try:
        record = _write(path, Decoded(split, options, keep_bytes=keep_bytes), num_workers, progress)
    except _NotBytes:
        record = _write(path, Decoded(split, options), num_workers, progress)
    write_json(path.with_suffix(".json"), {**key, **record})


def _write(path: Path, images: Decoded, num_workers: int, progress: bool) -> dict[str, Any]:
    """Write all images to `path`; their shape, type and the sizes of their files."""
    sizes = set()
    shape: tuple[int, ...] = ()
    with atomic_write(path, "wb") as file:
        for index, (image, size) in enumerate(_decode(images, num_workers, progress)):
            if not shape:
                shape, dtype = image.shape, image.dtype
                _write_header(file, (len(images), *shape), dtype)
            if image.shape != shape:
                first = images.data[0]
                raise UserError(
                    size_mismatch(images.data[index], image.shape[1:], first, shape[1:])
                )
            file.write(image.tobytes())
            sizes.add(tuple(size))
    return {
        "shape": [len(images), *shape],
        "dtype": str(dtype),
        "native_sizes": sorted(sizes),
    }


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """The header of an NPY file, so that the images can follow one by one."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _decode(
    images: Decoded, num_workers: int, progress: bool
) -> Iterator[tuple[Array, tuple[int, ...]]]:
    """Every image in order, decoded by `num_workers` processes."""
    first = images[0]
    if isinstance(first, UserError):
        raise first
    chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // max(1, first[0].nbytes)))
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_size=chunk,
        collate_fn=_plain,
        num_workers=num_workers if len(images) > chunk else 0,  # one chunk repays no process
        generator=torch.Generator(),  # leaves the global one, and so training, alone
    )
    with tqdm(total=len(images), desc="packing", unit="image", disable=not progress) as bar:
        for items in loader:
            for item in items:
                if isinstance(item, UserError):
                    raise item
                yield item
            bar.update(len(items))


def _plain(items: list[Item | UserError]) -> list[tuple[Array, tuple[int, ...]] | UserError]:
    """Tensors as arrays, which travel through a pipe and take no shared memory."""
    return [item if isinstance(item, UserError) else (item[0].numpy(), item[1]) for item in items]


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
