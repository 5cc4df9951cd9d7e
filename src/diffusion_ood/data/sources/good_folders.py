"""Folders that say which images are healthy: those of BMAD and of MedIAnomaly's BraTS2021.

    train/good  valid/{good,Ungood}  test/{good,Ungood}           the images, or in `img` below
    valid/Ungood/{label,anomaly_mask}  test/Ungood/{label,…}      masks of equal names
    train  test/{normal,tumor,annotation}                         MedIAnomaly's BraTS2021

The healthy images of `test` are in distribution, the others a set of their own, `ungood`.
Upper and lower case mean the same, and so do `valid` and `val`.
"""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.data.readers import image_suffix
from diffusion_ood.data.sources.base import ImageFiles, Part

PARTS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
KINDS = {"good": "", "normal": "", "ungood": "ungood_", "tumor": "ungood_"}
IMAGES = "img"
MASKS = ("label", "anomaly_mask", "annotation")


def read_good_folders(folder: Path) -> dict[Part, ImageFiles]:
    """The images of each part, of the unhealthy ones `ungood_val` and `ungood_test`.

    Empty where the folder has not this form: images to train on, healthy and unhealthy ones to
    test with. Where masks are is printed.
    """
    found: dict[Part, ImageFiles] = {}
    for of_part in _folders(folder):
        part = PARTS.get(of_part.name.lower())
        kinds = [kind for kind in _folders(of_part) if kind.name.lower() in KINDS]
        for kind in kinds if part else ():
            found[f"{KINDS[kind.name.lower()]}{part}"] = _images(kind)
        if part == "train" and not kinds:
            found[part] = _images(of_part)
    if not {"train", "test", "ungood_test"} <= {part for part, own in found.items() if len(own)}:
        return {}
    for masks in _masks(folder):
        print(f"masks of the unhealthy test images: {masks}")
    return found


def _masks(folder: Path) -> list[Path]:
    """Where the masks of the unhealthy test images lie, if there are any."""
    tests = [of_part for of_part in _folders(folder) if of_part.name.lower() == "test"]
    below = [
        (kind, own) for test in tests for kind in (*_folders(test), test) for own in _folders(kind)
    ]
    return [own for kind, own in below if own.name in MASKS and KINDS.get(kind.name.lower()) != ""]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _images(folder: Path) -> ImageFiles:
    own = folder / IMAGES
    paths = sorted((own if own.is_dir() else folder).iterdir())
    images = [path for path in paths if image_suffix(path.name) and path.name[0] != "."]
    return ImageFiles([path.resolve() for path in images])
