"""Sets of photographs in many sizes, as OpenOOD shows them to models of 32 x 32 pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from diffusion_ood.data.sources.archives import fetch_archive
from diffusion_ood.data.sources.base import Parts, Pixels, Place, RawFiles, Source, find_files
from diffusion_ood.errors import UserError

SIDE = 32

Labels = Callable[[Path, Sequence[Path]], list[str]]


def photograph_source(
    *, url: str, md5: str, folder: str, pattern: str, count: int, labels: Labels | None = None
) -> Source:
    """A test set of the photographs in an archive, each shrunk to 32 x 32.

    Args:
        url: of the archive.
        md5: of the archive.
        folder: the part of the archive that is read, such as `dtd/images`.
        pattern: which files below it are the photographs.
        count: how many there must be.
        labels: their labels, from the folder and the photographs' paths.
    """
    return Source(
        find=partial(find_files, names=(folder,)),
        fetch=partial(_fetch, url=url, md5=md5, folder=folder),
        read=partial(_read, folder=folder, pattern=pattern, labels=labels),
        counts={"test": count},
    )


def shrunk(photograph: Image.Image) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """(32, 32, 3): the shorter side shrunk to 32 pixels, then the middle, as OpenOOD does it."""
    from torchvision.transforms import functional

    small = functional.resize(photograph.convert("RGB"), [SIDE])  # bilinear
    return np.asarray(functional.center_crop(small, [SIDE]))


def _fetch(place: Place, url: str, md5: str, folder: str) -> RawFiles:
    fetch_archive(place, url, md5, folder.split("/")[0])
    found = find_files(place, (folder,))
    if found is None:
        raise UserError(f"{place.raw_dir}: found no {folder} in the archive of {place.name}")
    return found


def _read(raw: RawFiles, seed: int, folder: str, pattern: str, labels: Labels | None) -> Parts:
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
    return {"test": Pixels(pixels, names and [names[i] for i in mixed])}
