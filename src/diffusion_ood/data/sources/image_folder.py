"""Splits of a folder of the user's own images, which stay where they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from diffusion_ood.data.readers import image_suffix
from diffusion_ood.data.sources.base import ImageFiles, Part
from diffusion_ood.data.sources.prepare import val_count, write_splits
from diffusion_ood.errors import UserError


def prepare_folder(
    folder: Path,
    name: str,
    data_root: Path,
    *,
    group_by: str | None,
    test_fraction: float,
    seed: int,
) -> dict[Part, Path]:
    """Divide a folder's images into train, val and test; a group goes to one of them whole.

    The label is the first folder below `folder`, if every image lies in a sub-folder. Hidden files
    and folders are passed over, and links to folders are not followed.

    Args:
        folder: nested folders of images.
        name: of the data set; the splits are `name_train.csv` and so on.
        data_root: the splits go to its folder `data_splits`.
        group_by: a regular expression to search a file's relative path for; its first group, or
            else the whole match, names the patient. Without it every image is its own group.
        test_fraction: share of the groups that test; 5 % of the others validate. With 1 there is
            only a test split.
        seed: of the division.

    Raises:
        UserError: no folder, no image, fewer than three groups, or a file without a group.
    """
    images, ignored = list_images(folder)
    for suffix, count in sorted(ignored.items()):
        print(f"{folder}: ignored {count} files with {suffix or 'no suffix'}")
    groups = [image if group_by is None else _group(folder, image, group_by) for image in images]
    part_of = divide(sorted(set(groups)), test_fraction, seed, folder)
    labels = _labels(folder, images)
    root = folder.resolve()
    parts: dict[Part, ImageFiles] = {}
    for part in ("train", "val", "test"):
        chosen = [i for i, group in enumerate(groups) if part_of[group] == part]
        if chosen:
            parts[part] = ImageFiles(
                [root / images[i] for i in chosen], labels and [labels[i] for i in chosen]
            )
    return write_splits(name, parts, data_root.resolve(), seed)


def list_images(folder: Path) -> tuple[list[str], Counter[str]]:
    """The images' paths below `folder`, sorted, and how many other files there are by suffix."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected one of images")
    images: list[str] = []
    ignored: Counter[str] = Counter()
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = PurePosixPath(Path(parent, name).relative_to(folder))
            if name.startswith(".") or image_suffix(name) is None:
                ignored[path.suffix] += 1
            else:
                images.append(_text(folder, str(path)))
    return sorted(images), ignored


def divide(groups: Sequence[str], test_fraction: float, seed: int, folder: Path) -> dict[str, Part]:
    """The part of each group, by a seeded shuffle: test, then val, then train."""
    if test_fraction == 1 and groups:
        return dict.fromkeys(groups, "test")
    if len(groups) < 3:
        raise UserError(
            f"{folder}: found {len(groups)} images or groups of them, expected at least 3, "
            "one each to train, validate and test"
        )
    n_test = min(max(1, round(test_fraction * len(groups))), len(groups) - 2)
    n_val = val_count(len(groups) - n_test)
    shuffled = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    parts: list[Part] = ["test"] * n_test + ["val"] * n_val  # type: ignore[assignment] # of two literals
    parts += ["train"] * (len(groups) - len(parts))
    return dict(zip(shuffled, parts, strict=True))


def _text(folder: Path, path: str) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{folder}: the name of {path!r} is not UTF-8; rename the file") from None
    return path


def _group(folder: Path, image: str, pattern: str) -> str:
    try:
        found = re.search(pattern, image)
    except re.error as error:
        raise UserError(
            f"`group_by`: found {pattern!r}, not a regular expression ({error})"
        ) from None
    group = found and (found[1] if found.re.groups else found[0])
    if not group:
        raise UserError(f"{folder / image}: `group_by`={pattern} finds no group in {image}")
    return group


def _labels(folder: Path, images: Sequence[str]) -> list[str] | None:
    """The first folder of each path, or None if an image lies in no sub-folder."""
    nested = ["/" in image for image in images]
    if not all(nested):
        if any(nested):
            print(f"{folder}: images lie beside sub-folders, so the splits have no labels")
        return None
    return [image.split("/", 1)[0] for image in images]
