"""Batches of a split's images: what training and reconstruction call."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from diffusion_ood.data.contents import file_digests
from diffusion_ood.data.decoding import DecodedImages, decode, size_mismatch
from diffusion_ood.data.intensity import Intensity, measure_intensity
from diffusion_ood.data.packed import Packed, cache_folder, open_packed
from diffusion_ood.data.readers import image_size
from diffusion_ood.data.slices import sliced
from diffusion_ood.data.splits import Split
from diffusion_ood.data.transforms import flip, patch, prepared_size, to_unit
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, LoadingOptions


@dataclass(frozen=True)
class SkippedImage:
    """An image that is left out.

    Attributes:
        path: as written in the split.
        row: of the split's file that names it; a cell, where the file is one row.
        reason: why it cannot be read.
    """

    path: str
    row: int
    reason: str


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset[torch.Tensor]):
    """The images of a split as the model sees them: float32 in [0, 1], edited as the split says.

    Attributes:
        split: the split of these images.
        options: how a file becomes an array.
        images: where they come from, before the edit.
        shape: (C, *S) of every image.
        native_sizes: distinct sides of the source files, before cropping and resizing, sorted.
        digests: of the content of every file, see `data.contents`.
        intensity: the values that the files are stored with.
        skipped: the images that were in the split that was opened and cannot be read.
    """

    split: Split
    options: ImageOptions
    images: Packed | DecodedImages
    shape: tuple[int, ...]
    native_sizes: tuple[tuple[int, ...], ...]
    digests: tuple[str, ...]
    intensity: Intensity
    skipped: tuple[SkippedImage, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether the images come from a packed file."""
        return isinstance(self.images, Packed)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def contents(self) -> dict[str, str]:
        """What the pixels of each image follow from, by its path as written in the split.

        The digest of its file, then the edit, and of a patched image the digest of its donor.
        """
        found = {}
        for index, name in enumerate(self.split.images):
            parts = [self.digests[index], *([self.split.edit] if self.split.edit else [])]
            if self.split.edit == "patched":
                parts.append(self.digests[self._donor(index)[0]])
            found[name] = ":".join(parts)
        return found

    def batch(self, indices: Sequence[int]) -> torch.Tensor:
        """The images of these indices, (B, C, *S); B may be 0.

        Raises:
            UserError: an image that cannot be read.
        """
        if not len(indices):
            return torch.empty((0, *self.shape))
        images = self._stored(indices)
        if self.split.edit != "patched":
            return flip(images, self.split.edit, self.options)
        donors, places = zip(*map(self._donor, indices), strict=True)
        return torch.stack(list(map(patch, images, self._stored(donors), places)))

    def _stored(self, indices: Sequence[int]) -> torch.Tensor:
        """As they are stored, in [0, 1], (B, C, *S)."""
        if isinstance(self.images, Packed):
            rows = self.images.images[np.asarray(indices)]
            unit = to_unit(rows, self.options) if rows.dtype == np.uint8 else rows
            return torch.from_numpy(unit)
        tensors = []
        for index in indices:
            item = self.images[int(index)]
            if isinstance(item, UserError):
                raise self.split.error(int(index), item)
            tensors.append(item[0])
        return torch.stack(tensors)

    def _donor(self, index: int) -> tuple[int, NDArray[np.float64]]:
        """The image that a patch for image `index` comes from, and its place, see `patch`.

        An earlier image, so that more images at the end of a split change nothing for the others.
        """
        name = self.split.images[index].encode("utf-8", "surrogateescape")
        rng = np.random.default_rng(list(hashlib.blake2b(name, digest_size=16).digest()))
        donor = int(rng.integers(index)) if index else min(1, len(self) - 1)
        return donor, rng.random(len(self.shape) - 1)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Image number `index`, (C, *S)."""
        return self.batch([index])[0]

    def __getitems__(self, indices: list[int]) -> torch.Tensor | UserError:
        """A batch for a worker process, which hands an error over as a value."""
        try:
            return self.batch(indices)
        except UserError as error:
            return error


def open_images(
    split: Split,
    image_options: ImageOptions,
    loading_options: LoadingOptions,
    *,
    progress: bool = True,
    expected: tuple[int, ...] | None = None,
) -> ImageSet:
    """Open the images of a split, packed or not: the values are equal to the bit.

    Args:
        split: which images; volumes become their slices where the options say so.
        image_options: how a file becomes an array.
        loading_options: by how many processes, whether to keep the decoded images, and whether to
            leave out what cannot be read.
        progress: print a bar and where nothing could be packed.
        expected: the shape (C, *S) of what is not left out; None for that of the first readable.

    Raises:
        UserError: no image can be read; or, without skipping, one cannot, or differs in size.
    """
    split, opened = sliced(split, image_options), None
    skip = loading_options.on_error == "skip"
    try:
        opened = _open(split, image_options, loading_options, progress)
    except UserError:
        if not skip:
            raise
    if opened and (opened.packed or not skip):
        return opened
    # What is packed was decoded; of the others, headers alone do not tell whether they are whole.
    workers = loading_options.num_workers
    whole, skipped = _readable(split, image_options, workers, progress, expected)
    if skipped or opened is None:
        opened = _open(whole, image_options, loading_options, progress)
    return replace(opened, skipped=skipped)


def _open(
    split: Split, image_options: ImageOptions, loading_options: LoadingOptions, progress: bool
) -> ImageSet:
    """The images of a split, all of which have to be readable."""
    folder = cache_folder(split) if loading_options.cache_data else None
    digests = file_digests(split, folder)
    if folder:
        workers = loading_options.num_workers
        packed = open_packed(split, digests, image_options, folder, workers, progress=progress)
        if packed:
            shape = packed.images.shape[1:]
            return ImageSet(
                split, image_options, packed, shape, packed.native_sizes, digests, packed.intensity
            )
    elif loading_options.cache_data and progress:
        print(f"no folder can be written to; the images of {split.path} are not packed")
    shape, sizes = _scan(split, image_options, progress)
    images, intensity = DecodedImages(split, image_options), measure_intensity(split, image_options)
    return ImageSet(split, image_options, images, shape, sizes, digests, intensity)


def image_batches(
    images: ImageSet, order: Sequence[Sequence[int]], num_workers: int
) -> Iterator[torch.Tensor]:
    """The batches (B, C, *S) of these indices, in this order; an empty one has B = 0.

    Raises:
        UserError: an image that cannot be read.
    """
    if images.packed:
        yield from map(images.batch, order)
        return
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=order,  # type: ignore[arg-type] # its stub wants the sampler to hold lists
        collate_fn=_unchanged,
        num_workers=min(num_workers, len(order)),
        worker_init_fn=_stay,
        generator=torch.Generator(),  # does not advance the global one, and so the noise
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def epoch_order(
    n: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool,
) -> list[list[int]]:
    """This process's share of an epoch's batches, as indices below `n`.

    The permutation depends on (seed, epoch, n) alone, and the batches of `batch_size` images over
    all processes on nothing else, so that any number of processes sees the same ones. A batch's
    images are dealt out in turn, without padding or duplicates: every process gets equally many
    batches, but its share of a small last one may be empty.
    """
    order = np.random.default_rng([seed % 2**64, epoch]).permutation(n)
    end = n - n % batch_size if drop_last else n
    starts = range(0, end, batch_size)
    return [order[start : start + batch_size][rank::world_size].tolist() for start in starts]


def _stay(worker: int) -> None:
    """Outlive torchrun's SIGTERM, which asks the main process to end its step and save."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _unchanged(batch: Any) -> Any:  # noqa: ANN401 - whatever __getitems__ returned
    return batch


def _scan(
    split: Split, options: ImageOptions, progress: bool
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The shape that all images have once prepared, and the distinct native sides, from headers."""
    first: tuple[int, ...] = ()
    sizes = set()
    hidden = None if progress else True  # None: also hidden where the output is not a terminal
    for i in tqdm(range(len(split)), desc="checking sizes", unit="image", disable=hidden):
        try:
            native = image_size(split.image_path(i), options)
            sides = prepared_size(native, options)
        except UserError as error:
            raise split.error(i, error) from None
        first = first or sides
        if sides != first:
            paths = split.image_path(i), split.image_path(0)
            raise split.error(i, size_mismatch(paths[0], sides, paths[1], first))
        sizes.add(native)
    return (options.channels, *first), tuple(sorted(sizes))


def _readable(
    split: Split,
    options: ImageOptions,
    num_workers: int,
    progress: bool,
    expected: tuple[int, ...] | None,
) -> tuple[Split, tuple[SkippedImage, ...]]:
    """The split of the images that can be read, and the others.

    Every image is decoded, since a header does not tell whether its file is whole.
    """
    title = "checking" if progress else ""
    items = enumerate(decode(DecodedImages(split, options), num_workers, title, expected))
    errors = {index: item for index, item in items if isinstance(item, UserError)}
    if len(errors) == len(split):
        raise UserError(
            f"{split.path}: found no image that can be read; the first is "
            f"{split.unit} {split.number(0)}: {errors[0]}"
        )
    skipped = tuple(
        SkippedImage(split.images[index], split.number(index), str(error))
        for index, error in errors.items()
    )
    return split.only([index for index in range(len(split)) if index not in errors]), skipped
