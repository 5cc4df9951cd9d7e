"""Splits of image lists, whose paths start at a folder that is not the list's own."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.data.image_lists import SUFFIX
from diffusion_ood.data.remote import shown
from diffusion_ood.data.sources.prepare import relative_path, split_path
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted

PREFIXES = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def prepare_list(path: Path, root: Path, data_root: Path) -> Path:
    """Write the split of a list, `valid_midog.txt` as `midog_val.csv`; the labels are kept.

    Args:
        path: a text file with `path label` a line; without `train_` and so on its images test.
        root: the folder that its paths start at.
        data_root: the split goes to its folder `data_splits`.

    Raises:
        UserError: another file, or an image that is not there.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"{path}: expected an image list, whose name ends with {SUFFIX}")
    split = read_split(path, flips=False)
    images = [root / image for image in split.images]
    for i, image in enumerate(images):
        if not image.exists():
            raise split.error(i, f"found no {shown(split.images[i])} in {root}")
    part = PREFIXES.get(path.stem.split("_")[0], "test")
    made = split_path(data_root, split.name, part)
    write_split(made, [relative_path(image, made.parent) for image in images], split.labels)
    print(f"{made}: {counted(len(images), 'image')}")
    return made
