"""Test sets of photographs in many sizes, each shrunk to 32 x 32 pixels as OpenOOD does it.

Textures (DTD, Cimpoi et al. 2014): 5,640 of 47 kinds of texture. Places365 (Zhou et al. 2017): the
36,500 validation photographs of scenes. TinyImageNet (Le and Yang 2015): the 10,000 validation
photographs. torchvision has no TinyImageNet, and wants more files of the others than are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from diffusion_ood.data.sources.base import Download, ImageArray, RawFiles, Source, SplitImages
from diffusion_ood.errors import UserError

SIDE = 32
ANNOTATIONS = "val_annotations.txt"

Labels = Callable[[Path, Sequence[Path]], Sequence[str]]


def _source(
    url: str, md5: str, folder: str, pattern: str, count: int, labels: Labels | None = None
) -> Source:
    """The photographs in an archive.

    Args:
        url: of the archive.
        md5: of the archive.
        folder: the part of the archive that is read, such as `dtd/images`.
        pattern: which files below it are the photographs.
        count: how many there must be.
        labels: their labels, from the folder and the photographs' paths.
    """
    return Source(
        read=partial(_read, folder=folder, pattern=pattern, labels=labels),
        counts={"test": count},
        files={folder: None},
        downloads=[Download(Path(url).name, url, md5, folder.split("/")[0])],
    )


def shrunk(photograph: Image.Image) -> npt.NDArray[np.uint8]:
    """(32, 32, 3): the shorter side shrunk to 32 pixels, then the middle."""
    from torchvision.transforms import functional

    small = functional.resize(photograph.convert("RGB"), [SIDE])  # bilinear
    return np.asarray(functional.center_crop(small, [SIDE]))


def _read(
    raw: RawFiles, seed: int, folder: str, pattern: str, labels: Labels | None
) -> SplitImages:
    paths = sorted(raw[folder].glob(pattern))
    if not paths:
        raise UserError(f"{raw[folder]}: found no photographs {pattern}")
    names = labels(raw[folder], paths) if labels else None
    # mixed, so that the first N images are of all classes
    mixed = np.random.default_rng(seed).permutation(len(paths)).tolist()
    pixels = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for row, i in enumerate(tqdm(mixed, desc=f"{folder} at {SIDE} x {SIDE}", unit="image")):
        try:
            with Image.open(paths[i]) as photograph:
                pixels[row] = shrunk(photograph)
        except OSError as error:
            raise UserError(f"{paths[i]}: cannot be read ({error})") from None
    return {"test": ImageArray(pixels, names and [names[i] for i in mixed])}


def _folder_names(folder: Path, paths: Sequence[Path]) -> list[str]:
    return [path.parent.name for path in paths]


def _annotated(folder: Path, paths: Sequence[Path]) -> list[str]:
    """The WordNet number of each photograph: the second column of its line in a table."""
    table = folder / ANNOTATIONS
    if not table.is_file():
        raise UserError(f"{table}: no such file, expected a photograph and its class a line")
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    classes = {row[0]: row[1] for row in rows if len(row) > 1}
    unnamed = next((path.name for path in paths if path.name not in classes), None)
    if unnamed is not None:
        raise UserError(f"{table}: found no line for {unnamed}")
    return [classes[path.name] for path in paths]


TEXTURES = _source(
    url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
    md5="fff73e5086ae6bdbea199a49dfb8a4c1",
    folder="dtd/images",
    pattern="*/*.jpg",
    count=5_640,
    labels=_folder_names,
)
PLACES365 = _source(
    url="http://data.csail.mit.edu/places/places365/val_256.tar",
    md5="e27b17d8d44f4af9a78502beb927f808",
    folder="val_256",
    pattern="*.jpg",
    count=36_500,
)
TINY_IMAGENET = _source(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    folder="tiny-imagenet-200/val",
    pattern="images/*.JPEG",
    count=10_000,
    labels=_annotated,
)
