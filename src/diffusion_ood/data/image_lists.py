"""Image lists of OpenOOD (Yang et al. 2022) and OpenMIBOOD: a text file, `path label` a line."""

from __future__ import annotations

import os
from pathlib import Path

from diffusion_ood.data.remote import shown
from diffusion_ood.errors import UserError

SUFFIX = ".txt"
LISTS = "benchmark_imglist"
ROOTS = ("images_classic", "images_largescale", "midog", "phakir", "oasis")
"""Folders beside LISTS where OpenOOD and OpenMIBOOD keep their images."""


def parse_list(path: Path, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths and labels of a list's lines; blank lines are passed over.

    A path may hold spaces: the label is what follows the last one.

    Raises:
        UserError: a line without a label, or no line at all.
    """
    images, labels = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        if not image:
            raise UserError(
                f"{path}, row {number}: found {shown(line)[:60]!r}, expected a path and a label"
            )
        images.append(image.rstrip())
        labels.append(label)
    if not images:
        raise UserError(f"{path}: found an empty file, expected a path and a label a line")
    return tuple(images), tuple(labels)


def list_root(path: Path, first: str) -> Path:
    """The folder that a list's paths start at, in which its first image lies.

    It is the list's own folder; or, as OpenOOD lays out its data, a folder of images beside the
    folder `benchmark_imglist` that the list is in; or the nearest folder above the list.
    """
    folder = path.parent
    above = next(
        (parent.parent for parent in path.absolute().parents if parent.name == LISTS), None
    )
    others = [above / name for name in ROOTS] if above else []
    roots = (folder, *others, *path.absolute().parents)
    return next((root for root in roots if os.path.exists(root / first)), folder)
