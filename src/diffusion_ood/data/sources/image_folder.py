"""Splits of a folder of the user's own images, which stay where they are."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from diffusion_ood.data.formats.dicom import is_dicom
from diffusion_ood.data.groups import group_name
from diffusion_ood.data.patients import patient_of
from diffusion_ood.data.readers import image_suffix
from diffusion_ood.data.sources.base import PARTS, ImageFiles, Part
from diffusion_ood.data.sources.prepare import VAL_FRACTION, split_path, write_splits
from diffusion_ood.data.studies import UNKNOWN, places_of, series_or_unknown
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted


def prepare_folder(
    folder: Path,
    name: str,
    data_root: Path,
    *,
    group_by: str | None,
    test_fraction: float,
    seed: int,
    val_fraction: float = VAL_FRACTION,
    volumes: bool = False,
) -> dict[Part, Path]:
    """Divide a folder's images into train, val and test; a group goes to one of them whole.

    The part of a group follows from its name, the seed and the shares alone, see `part_of`: images
    that are added or removed never move another. The label is the first folder below `folder`, if
    every image lies in a sub-folder. What is left out is printed, see `list_images`.

    Args:
        folder: of images.
        name: of the data set; the splits are `name_train.csv` and so on.
        data_root: the splits go to its folder `data_splits`.
        group_by: a regular expression to search a file's relative path for; its first group, or
            else the whole match, names the patient. Without it DICOM is grouped by `patient_of`,
            and every other image is its own group.
        test_fraction: share of the groups that test, in the long run; with 1 they all do.
        seed: of the division.
        val_fraction: share of the other groups that validate.
        volumes: whether a DICOM series is one image; else each of its files is.

    Raises:
        UserError: no folder, no image, a part without images, or a file without a group.
    """
    images, left_out = list_images(folder, volumes=volumes)
    summary = ", ".join(f"{kind} ({count})" for kind, count in sorted(left_out.items()))
    if not images:
        raise UserError(f"{folder}: found 0 images; left out: {summary or 'nothing, it is empty'}")
    if summary:
        print(f"{folder}: {counted(len(images), 'image')}; left out: {summary}")
    groups = [_group(folder, image, group_by) for image in images]
    parts = [part_of(group, seed, test_fraction, val_fraction) for group in groups]
    if test_fraction < 1 and len(set(parts)) < 3:
        _refuse_empty_part(folder, sorted(set(groups)), seed, test_fraction, val_fraction)
    found = _files(folder, images, parts)
    for part in PARTS:
        if part not in found and (left := split_path(data_root, name, part)).exists():
            raise UserError(
                f"{left}: is of an earlier division, in which images of {folder} may train that "
                "now test; expected another `name`, or that file removed"
            )
    return write_splits(name, found, data_root.resolve(), seed)


def _group(folder: Path, image: str, group_by: str | None) -> str:
    """The group of an image: by its name, of DICOM by its patient, or itself."""
    if group_by is not None:
        return group_name(image, group_by)
    return (None if image_suffix(image) else patient_of(folder / image)) or image


def _files(folder: Path, images: Sequence[str], parts: Sequence[Part]) -> dict[Part, ImageFiles]:
    """The files of each part that has any."""
    labels = _labels(folder, images)
    root = folder.resolve()
    found: dict[Part, ImageFiles] = {}
    for part in sorted(set(parts), key=PARTS.index):
        chosen = [i for i, own in enumerate(parts) if own == part]
        found[part] = ImageFiles(
            [root / images[i] for i in chosen], labels and [labels[i] for i in chosen]
        )
    return found


def part_of(group: str, seed: int, test_fraction: float, val_fraction: float) -> Part:
    """The part of a group: where a hash of seed and name lies between 0 and 1 (uniformly).

    Names that differ in their Unicode form alone, as file systems do it, have one hash.
    """
    name = unicodedata.normalize("NFC", group).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(b"%d\0%s" % (seed, name), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < test_fraction:
        return "test"
    return "val" if place < test_fraction + val_fraction * (1 - test_fraction) else "train"


def list_images(folder: Path, *, volumes: bool = False) -> tuple[list[str], Counter[str]]:
    """The images' paths below `folder`, sorted, and what else is there: how many of each kind.

    Links are followed. Left out are hidden files and folders, files of other suffixes that are not
    DICOM, DICOM without an image, links to nothing, pipes and devices, run directories, and folders
    that cannot be read. With `volumes` the place of a DICOM series stands for its files.

    Raises:
        UserError: no folder; or a file or folder that is there twice, by links: one copy could
            train and the other test.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected one of images")
    seen: dict[tuple[int, int], Path] = {}
    images: list[Path] = []
    series: dict[Path, str] = {}
    left_out: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        left_out[f"folder that cannot be read ({error.filename})"] += 1

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        _refuse_twice(Path(parent), os.stat(parent), seen)
        left_out["hidden folders"] += sum(name.startswith(".") for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if _is_run(Path(parent), names):
            left_out["folders of runs of this program"] += 1
            folders.clear()
            continue
        for name in names:
            path = Path(parent, name)
            status = _status(path)
            kind = _kind_left_out(path, status)
            if kind is None and image_suffix(name) is None:
                digest = series_or_unknown(path)
                kind = "DICOM without an image" if digest is None else None
                series[path.relative_to(folder)] = digest or UNKNOWN
            if kind is not None:
                left_out[kind] += 1
            elif status is not None:
                _refuse_twice(path, status, seen)
                images.append(path.relative_to(folder))
    places = places_of(series) if volumes else {}
    return sorted({Path(str(places.get(path, path))).as_posix() for path in images}), +left_out


def _is_run(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder is a run directory, whose pictures are results."""
    checkpoint = any(fnmatch(name, "checkpoint*.pth") for name in names)
    return checkpoint or any((folder / "ood").glob("results_*.csv"))


def _refuse_twice(path: Path, status: os.stat_result, seen: dict[tuple[int, int], Path]) -> None:
    other = seen.setdefault((status.st_dev, status.st_ino), path)
    if other != path:
        raise UserError(f"{path}: a link makes it the same as {other}, expected every image once")


def _status(path: Path) -> os.stat_result | None:
    """What a path leads to, None for a link to nothing."""
    try:
        return path.stat()
    except OSError:
        return None


def _kind_left_out(path: Path, status: os.stat_result | None) -> str | None:
    """As what a file is left out by its name and kind, None for an image and for DICOM."""
    if path.name.startswith("."):
        return "hidden files"
    if image_suffix(path.name) is None and not is_dicom(path):
        suffix = path.suffix
        return f"with {suffix}" if suffix else "without a suffix"
    if status is None:
        return "links to nothing"
    return None if stat.S_ISREG(status.st_mode) else "pipes or devices"


def _refuse_empty_part(
    folder: Path, groups: Sequence[str], seed: int, test_fraction: float, val_fraction: float
) -> None:
    """Say which part has no images, and with which seed every part has some."""

    def parts(other: int) -> set[Part]:
        return {part_of(group, other, test_fraction, val_fraction) for group in groups}

    if len(groups) < 3:
        raise UserError(
            f"{folder}: found {len(groups)} images or groups of them, expected at least 3, "
            "one each to train, validate and test"
        )
    missing = ", ".join(sorted({"train", "val", "test"} - parts(seed)))
    better = next((other for other in range(1000) if len(parts(other)) == 3), None)
    hint = "" if better is None else f"give `seed`={better}, or "
    raise UserError(
        f"{folder}: found {len(groups)} images or groups of them, of which by `seed` {seed} none "
        f"falls into {missing}; {hint}other values of `test_fraction` and `val_fraction`"
    )


def _labels(folder: Path, images: Sequence[str]) -> list[str] | None:
    """The first folder of each path, or None if an image lies in no sub-folder."""
    nested = ["/" in image for image in images]
    if not all(nested):
        if any(nested):
            print(f"{folder}: images lie beside sub-folders, so the splits have no labels")
        return None
    return [image.split("/", 1)[0] for image in images]
