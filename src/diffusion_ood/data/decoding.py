"""A split's images decoded one after the other; those that cannot be read come as errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from diffusion_ood.data.places import Place
from diffusion_ood.data.readers import Array, read_image
from diffusion_ood.data.splits import Split
from diffusion_ood.data.transforms import preparation, prepared_size
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

CHUNK_BYTES = 8 << 20  # what a worker hands over at a time
CHUNK_IMAGES = 256

Item = tuple[torch.Tensor, tuple[int, ...]]
ArrayItem = tuple[Array, tuple[int, ...]]


class DecodedImages(Dataset["Item | UserError"]):
    """Image i of a split as a pair: the prepared tensor (C, *S) and the file's own sides.

    An error that a user has to correct comes as a value, a `UserError`: raised in a worker
    process, it would arrive with that process's traceback in its message.
    """

    def __init__(self, split: Split, options: ImageOptions, *, keep_bytes: bool = False) -> None:
        self.split = split
        self.options = options
        self.keep_bytes = keep_bytes
        self._prepare = preparation(options, keep_bytes=keep_bytes)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Item | UserError:
        try:
            stored = read_image(self.split.image_path(index), self.options)
            prepared_size(stored.shape[1:], self.options)  # raises for a crop beyond the image
        except UserError as error:
            return error
        if self.keep_bytes and stored.dtype != np.uint8:
            return NotBytes()
        return self._prepare(stored), stored.shape[1:]


class NotBytes(UserError):
    """Not every image of the split is stored in bytes; the caller takes floats instead."""


def size_mismatch(path: Path, found: Sequence[int], first: object, expected: Sequence[int]) -> str:
    """The sentence about an image whose size differs from that of the others."""
    found_text, expected_text = (" x ".join(map(str, sides)) for sides in (found, expected))
    return (
        f"{path}: found {found_text} pixels, expected {expected_text} as in {first}; "
        "give `image_size` or `image_roi` to make them equal"
    )


def decode(
    images: DecodedImages,
    num_workers: int,
    progress: str,
    expected: tuple[int, ...] | None = None,
) -> Iterator[ArrayItem | UserError]:
    """Every image in order, or why it cannot be read or has another size than expected.

    Args:
        images: what to decode.
        num_workers: by how many processes.
        progress: the text of a progress bar; without text there is none.
        expected: the shape (C, *S) of the model's images; None for that of the first readable one.
    """
    first = expected and ("the model's images", expected)
    for index, item in enumerate(_items(images, num_workers, progress)):
        if isinstance(item, UserError):
            yield item
            continue
        path, shape = images.split.image_path(index), item[0].shape
        first = first or (str(path), shape)
        if shape == first[1]:
            yield item
        else:
            yield UserError(size_mismatch(path, shape[1:], first[0], first[1][1:]))


def _items(
    images: DecodedImages, num_workers: int, progress: str
) -> Iterator[ArrayItem | UserError]:
    """Every image in order, decoded by `num_workers` processes."""
    first = images[0]
    size = 1 if isinstance(first, UserError) else first[0].nbytes
    chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // max(1, size)))
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=_chunks(images.split, chunk),
        collate_fn=_as_arrays,
        num_workers=num_workers if len(images) > chunk else 0,  # one chunk repays no process
        generator=torch.Generator(),  # does not advance the global one, and so training
    )
    hidden = None if progress else True  # None: also hidden where the output is not a terminal
    with tqdm(total=len(images), desc=progress, unit="image", disable=hidden) as bar:
        for items in loader:
            yield from items
            bar.update(len(items))


def _chunks(split: Split, size: int) -> list[list[int]]:
    """The indices of all images, about `size` together; the slices of a volume are not parted.

    So that one process reads it, once.
    """
    found: list[list[int]] = [[]]
    for _, group in itertools.groupby(range(len(split)), lambda i: Place.of(split.images[i]).whole):
        indices = list(group)
        if found[-1] and len(found[-1]) + len(indices) > size:
            found.append([])
        found[-1] += indices
    return found


def _as_arrays(items: list[Item | UserError]) -> list[ArrayItem | UserError]:
    """Tensors as arrays, which travel through a pipe and take no shared memory."""
    return [item if isinstance(item, UserError) else (item[0].numpy(), item[1]) for item in items]
