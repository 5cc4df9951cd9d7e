"""OOD sets of a split's own images with a fault of acquisition, as files of their own kinds."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from diffusion_ood.data.contents import file_digests
from diffusion_ood.data.faults.base import PairFault, generator, with_fault
from diffusion_ood.data.faults.lesions import visible
from diffusion_ood.data.native_files import open_native
from diffusion_ood.data.sources.faulty_manifest import Manifest, refuse_other_split
from diffusion_ood.data.sources.masks import encoded_mask, mask_folder, mask_name
from diffusion_ood.data.sources.prepare import relative_path
from diffusion_ood.data.splits import Split, read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.registries import FAULTS
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.runtime.words import counted

FORMAT_VERSION = 1
"""Of the manifest and of the faults: with another one, files are written anew."""
CHUNK = 16  # images a process takes at a time


@dataclass(frozen=True)
class FaultyImage:
    """One image to write.

    Attributes:
        source, target: the original, and the file that is written.
        fault: its name.
        severity, seed: as the user gave them.
        key: the original's path in its split.
        where: the split and row that name it, for errors.
        digest: of the content of all files that the image is made from.
        other: the image that gives a `PairFault` its part.
        mask: the file that says where the image is changed, of a fault that is `masked`.
    """

    source: Path
    target: Path
    fault: str
    severity: int
    seed: int
    key: str
    where: str
    digest: str
    other: Path | None
    mask: Path | None

    @property
    def files(self) -> list[Path]:
        """What is written; the image is last."""
        return [self.target] if self.mask is None else [self.mask, self.target]


@dataclass(frozen=True)
class Originals:
    """The images of a split, and what is known of them.

    Attributes:
        split: all of them.
        digests: of each one's content.
        names: of each one's copy, below the folder of a set.
        others: for each one the image that gives it a part.
        count: how many of them, from the first, are copied.
    """

    split: Split
    digests: Sequence[str]
    names: Sequence[str]
    others: Sequence[int]
    count: int


def make_faulty_sets(
    path: Path,
    data_root: Path,
    faults: Sequence[str],
    *,
    severity: int,
    seed: int,
    first_n: int | None = None,
    num_workers: int = 0,
) -> dict[str, Path]:
    """Write a split's images once with each fault, but for those that are there and whole.

    An image's random numbers follow from the seed and its path in the split alone. Only
    `foreign_patch` depends on which other images are there: on the next one in an order by hashes.

    Args:
        path: a split.
        data_root: the images go to `SET/` in it and their splits to `data_splits/SET.csv`, where
            SET is the split's stem, the fault and the severity: `HeadCT_test_ghosting3`. Masks of
            faults that are `masked` go to `SET_masks/`, see `masks`.
        faults: names in `FAULTS`.
        severity: 1 to 5.
        seed: of the random numbers.
        first_n: how many images, from the first; None for all.
        num_workers: processes that write images.

    Returns:
        The split of each set, by its name.

    Raises:
        UserError: a split or an image that cannot be read, or written as the kind that it is; two
            images of one name, no other image for a part, or sets of another split.
    """
    split = read_split(path, flips=False)
    of = os.path.relpath(split.path.resolve(), data_root.resolve())
    sets = {fault: f"{split.path.stem}_{fault}{severity}" for fault in faults}
    _refuse_before_work(split, of, data_root, sets)
    originals = Originals(
        split,
        file_digests(split, None),
        _names(split),
        _others(split, seed),
        min(first_n or len(split), len(split)),
    )
    splits = {name: data_root / "data_splits" / f"{name}.csv" for name in sets.values()}
    for fault, name in sets.items():
        images = list(_images(originals, data_root / name, fault, severity, seed))
        labels = split.labels and split.labels[: len(images)]
        _make_set(splits[name], of, images, labels, num_workers)
    return splits


def _refuse_before_work(split: Split, of: str, root: Path, sets: Mapping[str, str]) -> None:
    for fault, name in sets.items():
        refuse_other_split(root / name, of)
        if isinstance(FAULTS[fault], PairFault) and len(split) < 2:
            raise UserError(f"{split.path}: found one image, expected at least two for {fault}")


def _make_set(
    split: Path,
    of: str,
    images: Sequence[FaultyImage],
    labels: Sequence[str] | None,
    num_workers: int,
) -> None:
    folder, first = split.parents[1] / split.stem, images[0]
    settings = {
        "format": FORMAT_VERSION,
        "fault": first.fault,
        "severity": first.severity,
        "seed": first.seed,
    }
    manifest = Manifest(folder, of, settings)
    by_name = {image.target.relative_to(folder).as_posix(): image for image in images}
    missing = manifest.start({name: image.digest for name, image in by_name.items()})
    whole = {n for n, image in by_name.items() if image.mask is None or image.mask.is_file()}
    missing = [name for name in by_name if name in missing or name not in whole]
    _write_all([by_name[name] for name in missing], num_workers, split.stem)
    manifest.finish(by_name, missing)
    changed = _update_split(split, images, labels)
    done = (
        counted(len(images), "image") if missing or changed else "complete already, nothing to do"
    )
    print(f"{split}: {done}")
    if images[0].mask is not None:
        print(f"masks: {mask_folder(split.parents[1] / split.stem)}")


def _names(split: Split) -> list[str]:
    """Each image's path without what leads out of the split's folder; no two are the same."""
    seen: dict[str, int] = {}
    for index, image in enumerate(split.images):
        plain = PurePosixPath(os.path.normpath(image).replace(os.sep, "/"))
        name = "/".join(part for part in plain.parts if part not in ("..", plain.anchor))
        first = seen.setdefault(name, index)
        if first != index:
            raise split.error(
                index,
                f"found {image}, whose copy would take the name {name} of that of "
                f"{split.images[first]}, expected paths that differ in more than ../",
            )
    return list(seen)


def _others(split: Split, seed: int) -> list[int]:
    """For each image the next one in a circle, in which the images stand by hashes of their paths.

    So it does not depend on their order, and changes for one image where one is added.
    """

    def place(index: int) -> bytes:
        key = split.images[index].encode("utf-8", "surrogateescape")
        return hashlib.blake2b(b"%d\0%s" % (seed, key)).digest()

    circle = sorted(range(len(split)), key=place)
    following = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [following[index] for index in range(len(split))]


def _images(
    originals: Originals, folder: Path, fault: str, severity: int, seed: int
) -> Iterator[FaultyImage]:
    split, kind = originals.split, FAULTS[fault]
    paired = isinstance(kind, PairFault)
    masks = mask_folder(folder) if paired and kind.masked else None
    for index in range(originals.count):
        other = originals.others[index] if paired else None
        digest = originals.digests[index]
        yield FaultyImage(
            source=split.image_path(index),
            target=folder / originals.names[index],
            fault=fault,
            severity=severity,
            seed=seed,
            key=split.images[index],
            where=split.where(index),
            digest=digest if other is None else f"{digest} {originals.digests[other]}",
            other=None if other is None else split.image_path(other),
            mask=masks and masks / mask_name(originals.names[index]),
        )


def _write_all(images: Sequence[FaultyImage], num_workers: int, title: str) -> None:
    bar = partial(tqdm, desc=title, unit="image", total=len(images), disable=not images)
    if num_workers < 2 or len(images) <= CHUNK:
        list(bar(map(_write, images)))
    else:
        with ProcessPoolExecutor(num_workers) as pool:
            list(bar(pool.map(_write, images, chunksize=CHUNK)))


def _write(image: FaultyImage) -> None:
    try:
        native = open_native(image.source)
        other = None if image.other is None else open_native(image.other).unit
    except UserError as error:
        raise UserError(f"{image.where}: {error}") from None
    if other is not None and other.ndim != native.samples.ndim:
        raise UserError(
            f"{image.where}: found {native.samples.ndim - 1} sides, and {other.ndim - 1} in "
            f"{image.other}, expected as many for {image.fault}"
        )
    rng = generator(image.seed, image.key)
    changed = with_fault(FAULTS[image.fault], native.unit, image.severity, rng, other)
    stored = native.stored(changed)
    contents = [native.encode(stored)]
    if image.mask is not None:
        after = dataclasses.replace(native, samples=stored)
        mask = visible(native.unit, after.unit)
        contents.insert(0, encoded_mask(mask, image.mask.name))
    for path, content in zip(image.files, contents, strict=True):
        with atomic_write(path, "wb") as file:
            file.write(content)


def _update_split(path: Path, images: Sequence[FaultyImage], labels: Sequence[str] | None) -> bool:
    """Write the split unless it is there as it should be; whether it was written."""
    paths = tuple(relative_path(image.target, path.parent) for image in images)
    try:
        found = read_split(path, flips=False)
        if (found.images, found.labels) == (paths, labels and tuple(labels)):
            return False
    except UserError:
        pass
    write_split(path, paths, labels)
    return True
