"""CelebA (Liu et al. 2015): 202,599 faces, aligned, colour JPEG, 178 x 218 pixels.

The JPEG files stay where they are; the official partition into train, val and test is kept.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from diffusion_ood.data.sources.archives import unpack
from diffusion_ood.data.sources.base import (
    Files,
    Part,
    Parts,
    Place,
    RawFiles,
    Source,
    find_files,
    verify,
)
from diffusion_ood.data.sources.download import attempt
from diffusion_ood.errors import UserError

IMAGES, PARTITION = "img_align_celeba", "list_eval_partition.txt"
ARCHIVE = f"{IMAGES}.zip"
FILES = (IMAGES, PARTITION)
WANTED = (ARCHIVE, PARTITION)
# Google Drive's ids and the files' MD5, as torchvision lists them.
DRIVE = {
    ARCHIVE: ("0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"),
    PARTITION: ("0B7EVK8r0v71pY0NSMzRuSXJEVkk", "d32c9cbf5e040fd4025c592c306e6668"),
}
PARTS: dict[str, Part] = {"0": "train", "1": "val", "2": "test"}


def _fetch(place: Place) -> RawFiles:
    """Unpack the archive if it is there, after downloading what is not."""
    for name in WANTED:
        there = find_files(place, [name]) or (name == ARCHIVE and find_files(place, [IMAGES]))
        if not there:
            attempt(place, name, WANTED, partial(_download, place, name))
    if find_files(place, [IMAGES]) is None:
        archives = find_files(place, [ARCHIVE])
        assert archives is not None, "it has just been found or downloaded"
        verify(place.name, archives[ARCHIVE], DRIVE[ARCHIVE][1])
        unpack(archives[ARCHIVE], place.raw_dir, IMAGES)
    found = find_files(place, FILES)
    assert found is not None, "both have just been found, downloaded or unpacked"
    return found


def _download(place: Place, name: str) -> None:
    from torchvision.datasets.utils import download_file_from_google_drive

    file_id, md5 = DRIVE[name]
    download_file_from_google_drive(file_id, place.raw_dir, name, md5)


def _read(raw: RawFiles, seed: int) -> Parts:
    there = set(os.listdir(raw[IMAGES]))
    paths: dict[Part, list[Path]] = {part: [] for part in PARTS.values()}
    lines = raw[PARTITION].read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        name, _, part = line.partition(" ")
        if part not in PARTS:
            raise UserError(
                f"{raw[PARTITION]}, row {number}: found {line!r}, "
                "expected the name of an image and 0, 1 or 2"
            )
        if name not in there:
            raise UserError(
                f"{raw[IMAGES]}: {name} is missing, which row {number} of {PARTITION} names"
            )
        paths[PARTS[part]].append(raw[IMAGES] / name)
    return {part: Files(files) for part, files in paths.items()}


SOURCE = Source(
    find=partial(find_files, names=FILES),
    fetch=_fetch,
    read=_read,
    counts={"train": 162_770, "val": 19_867, "test": 19_962},
    digests={PARTITION: DRIVE[PARTITION][1]},
)
