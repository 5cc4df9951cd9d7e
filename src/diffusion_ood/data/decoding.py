"""A split's images decoded one after the other, and what becomes of those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from diffusion_ood.data.readers import Array, read_image
from diffusion_ood.data.splits import Split
from diffusion_ood.data.transforms import preparation
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.imports import without_deprecation_notices

with without_deprecation_notices():
    from monai.data.dataset import Dataset

CHUNK_BYTES = 8 << 20  # what a worker hands over at a time
CHUNK_IMAGES = 256

Item = tuple[torch.Tensor, tuple[int, ...]]
Plain = tuple[Array, tuple[int, ...]]

Skipped = dict[int, str]
"""Why the images of these indices are left out."""


class Decoded(Dataset):
    """Image i of a split as a pair: the prepared tensor (C, *S) and the file's own sides.

    What a user has to mend comes as a value, a `UserError`: raised in a worker process, it would
    arrive with that process's traceback in its message.
    """

    def __init__(self, split: Split, options: ImageOptions, *, keep_bytes: bool = False) -> None:
        paths = [split.image_path(i) for i in range(len(split))]
        super().__init__(paths, preparation(options, keep_bytes=keep_bytes))
        self.split = split
        self.options = options
        self.keep_bytes = keep_bytes

    def _transform(self, index: int) -> Item | UserError:
        try:
            stored = read_image(self.data[index], self.options)
        except UserError as error:
            return error
        if self.keep_bytes and stored.dtype != np.uint8:
            return NotBytes()
        return self.transform(stored), stored.shape[1:]


class NotBytes(UserError):
    """Not every image of the split is stored in bytes; the caller takes floats instead."""


def located(split: Split, index: int, reason: object) -> UserError:
    """The error about image number `index`, with the row that names it."""
    return UserError(f"{split.where(index)}: {reason}")


def size_mismatch(path: Path, found: Sequence[int], first: Path, expected: Sequence[int]) -> str:
    """The sentence about an image whose size is not the others'."""
    found_text, expected_text = (" x ".join(map(str, sides)) for sides in (found, expected))
    return (
        f"{path}: found {found_text} pixels, expected {expected_text} as in {first}; "
        "give `image_size` or `image_roi` to make them equal"
    )


def decode(
    images: Decoded, num_workers: int, skipped: Skipped | None, progress: str
) -> Iterator[Plain]:
    """Every image in order that can be read and is as large as the first of them.

    Args:
        images: what to decode.
        num_workers: by how many processes.
        skipped: takes the others; without it the first of the others is an error.
        progress: what a progress bar says; without it there is none.

    Raises:
        UserError: an image that is not to be skipped, or no image that can be read.
        NotBytes: an image that is not stored in bytes.
    """
    first: tuple[int, tuple[int, ...]] | None = None
    for index, item in enumerate(_items(images, num_workers, progress)):
        problem = item
        if not isinstance(item, UserError):
            first = first or (index, item[0].shape)
            if item[0].shape == first[1]:
                yield item
                continue
            expected = images.data[first[0]], first[1][1:]
            problem = UserError(size_mismatch(images.data[index], item[0].shape[1:], *expected))
        if isinstance(problem, NotBytes):
            raise problem
        if skipped is None:
            raise located(images.split, index, problem)
        skipped[index] = str(problem)
    if first is None:
        raise UserError(
            f"{images.split.path}: found no image that can be read; first, "
            f"{images.split.unit} {images.split.number(0)}: {(skipped or {}).get(0)}"
        )


def _items(images: Decoded, num_workers: int, progress: str) -> Iterator[Plain | UserError]:
    """Every image in order, decoded by `num_workers` processes."""
    first = images[0]
    size = 1 if isinstance(first, UserError) else first[0].nbytes
    chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // max(1, size)))
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_size=chunk,
        collate_fn=_plain,
        num_workers=num_workers if len(images) > chunk else 0,  # one chunk repays no process
        generator=torch.Generator(),  # leaves the global one, and so training, alone
    )
    hidden = None if progress else True  # None: where nobody watches, too
    with tqdm(total=len(images), desc=progress, unit="image", disable=hidden) as bar:
        for items in loader:
            yield from items
            bar.update(len(items))


def _plain(items: list[Item | UserError]) -> list[Plain | UserError]:
    """Tensors as arrays, which travel through a pipe and take no shared memory."""
    return [item if isinstance(item, UserError) else (item[0].numpy(), item[1]) for item in items]
