"""The content of image files: a digest of each, by which what changed under its name is seen."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any, TypeGuard

from diffusion_ood.data.formats.dicom_series import series_files
from diffusion_ood.data.opening import file_status, sentences
from diffusion_ood.data.places import Place
from diffusion_ood.data.slices import digest_of_slice
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write, sha256

SETTLED_NS = 2_000_000_000
"""A file that changed later than this before it is read may change again within one tick of its
clock, unseen; what is found of it is not kept."""

DIGITS = 32  # of the SHA-256 of a file, half of them


def file_digests(split: Split, folder: Path | None) -> tuple[str, ...]:
    """The first half of the SHA-256 of every file, 32 hexadecimal digits, in the split's order.

    That of a slice follows from its file's and from its place, that of a DICOM series from its
    files'.

    A file is read once: its digest is kept in `folder`, and found by its size, number and times. Of
    these the time of the last change of its record (ctime) cannot be set, as copies do with others.

    Args:
        split: which files.
        folder: where digests are kept; None for nowhere.

    Raises:
        UserError: a file that is missing, empty or cannot be read.
    """
    path = folder / f"{split.path.name}.contents.json" if folder else None
    known = _known(path)
    settled = time.time_ns() - SETTLED_NS
    found: dict[str, tuple[list[int], str]] = {}
    digests = []
    for index, image in enumerate(split.images):
        place = Place.of(split.image_path(index))
        file = image if place.plane is None else image.rpartition("::")[0]
        try:
            if file not in found:  # once for all slices of a volume
                found[file] = _digest(place, known.get(file))
        except UserError as error:
            raise split.error(index, error) from None
        digests.append(digest_of_slice(found[file][1], place))
    kept = {file: [*entry] for file, entry in found.items() if max(entry[0][1:3]) < settled}
    if path and any(known.get(image) != entry for image, entry in kept.items()):
        with contextlib.suppress(OSError), atomic_write(path) as shortcut:
            json.dump({**known, **kept}, shortcut)
    return tuple(digests)


def content_number(digest: str) -> int:
    """A digest as a number of 63 bits, which a checkpoint keeps of each of its training images.

    Two of a billion different images have the same number with a probability of 5 %.
    """
    return int(digest[:16], 16) >> 1


def _known(path: Path | None) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path else {}
    except (OSError, ValueError, TypeError):
        return {}


def _is_digest(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", text) is not None


def _digest(place: Place, known: Any) -> tuple[list[int], str]:  # noqa: ANN401 - a file may hold it
    """A place's stamp, and its digest: the known one, if that is of the same stamp.

    That of a DICOM series follows from its files' in any order, whatever they are called.
    """
    files = _files(place)
    every = [file_status(file) for file in files]
    stamp = [
        sum(status.st_size for status in every),
        max(status.st_mtime_ns for status in every),
        max(status.st_ctime_ns for status in every),
        sum(status.st_ino for status in every),
    ]
    if isinstance(known, list) and len(known) == 2 and known[0] == stamp and _is_digest(known[1]):
        return stamp, known[1]
    digests = sorted(map(_sha256, files))
    if not os.path.isdir(place.path):
        return stamp, digests[0][:DIGITS]
    return stamp, hashlib.sha256("".join(digests).encode()).hexdigest()[:DIGITS]


def _files(place: Place) -> list[Path]:
    """The file of a place, or those of its series."""
    if not os.path.isdir(place.path):
        return [place.path]
    with sentences(str(place)):
        return series_files(place)


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
