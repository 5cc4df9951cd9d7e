"""CelebA (Liu et al. 2015): 202,599 faces, aligned, colour JPEG, 178 x 218 pixels.

The JPEG files stay where they are; the official partition into train, val and test is kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from torchvision import datasets

from diffusion_ood.data.sources.base import (
    Download,
    ImageFiles,
    Part,
    RawFiles,
    Source,
    SplitImages,
)
from diffusion_ood.data.sources.raw_files import DRIVE
from diffusion_ood.errors import UserError

IMAGES, PARTITION = "img_align_celeba", "list_eval_partition.txt"
ARCHIVE = f"{IMAGES}.zip"
PARTS: dict[str, Part] = {"0": "train", "1": "val", "2": "test"}
PUBLISHED = {name: (f"{DRIVE}{file_id}", md5) for file_id, md5, name in datasets.CelebA.file_list}


def _read(raw: RawFiles, seed: int) -> SplitImages:
    there = set(os.listdir(raw[IMAGES]))
    paths: dict[Part, list[Path]] = {part: [] for part in PARTS.values()}
    for line in raw[PARTITION].read_text(encoding="utf-8").splitlines():
        name, part = line.split()
        if name not in there:
            raise UserError(f"{raw[IMAGES]}: {name} is missing, which {PARTITION} names")
        paths[PARTS[part]].append(raw[IMAGES] / name)
    return {part: ImageFiles(files) for part, files in paths.items()}


SOURCE = Source(
    read=_read,
    counts={"train": 162_770, "val": 19_867, "test": 19_962},
    files={IMAGES: None, PARTITION: PUBLISHED[PARTITION][1]},
    downloads=[
        Download(ARCHIVE, *PUBLISHED[ARCHIVE], folder=IMAGES),
        Download(PARTITION, *PUBLISHED[PARTITION]),
    ],
)
