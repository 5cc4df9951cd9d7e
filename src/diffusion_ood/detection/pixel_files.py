"""Maps and masks as files of two folders, whose names say which belong together.

    maps   MAP.npy or MAP.nii.gz: floats (*S'), higher where the image is more unusual
    masks  MASK.png, MASK.npy or MASK.nii.gz: other than 0 in lesions

NIfTI is turned to RAS, in which arrays of volumes are taken to lie, as the masks of `get_datasets`.

A name counts without its suffix, and without that of an image before it: scans/7.npy,
scans/7.png.npy and scans/7.png belong together. Folders that all files of one of the two share
do not count.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ood.data.formats import nifti
from diffusion_ood.data.opening import refusing
from diffusion_ood.data.places import Place
from diffusion_ood.data.readers import ARRAY_SUFFIX, image_suffix, read_samples
from diffusion_ood.data.volumes import open_volume, oriented
from diffusion_ood.detection.pixel_metrics import PixelResults, evaluate_pixels, resized
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

MAP_SUFFIXES = (ARRAY_SUFFIX, *nifti.SUFFIXES)
MASK_SUFFIXES = (".png", *MAP_SUFFIXES)
TURNED = ImageOptions(spatial_dimension=3)


def assess_pixels(maps: Path, masks: Path, *, n_bootstrap: int, seed: int) -> PixelResults:
    """The metrics of all maps of a folder by the masks of another.

    Raises:
        UserError: a folder without such files, a map or mask that is not in both, one that cannot
            be read or does not go with the other, or masks without any lesion.
    """
    pairs = _pairs(maps, masks)
    truths, values = [], []
    for of_map, of_mask in pairs:
        truth = _read_mask(of_mask)
        try:
            values.append(resized(_read_map(of_map), truth.shape))
        except ValueError as error:
            raise UserError(f"{of_map}: {error}, expected finite numbers of its sides") from None
        truths.append(truth)
    try:
        return evaluate_pixels(values, truths, n_bootstrap=n_bootstrap, seed=seed)
    except ValueError as error:
        raise UserError(f"{masks}: {error}") from None


def _pairs(maps: Path, masks: Path) -> list[tuple[Path, Path]]:
    """The files of each name, sorted by it."""
    of_maps, of_masks = _files(maps, MAP_SUFFIXES), _files(masks, MASK_SUFFIXES)
    for found, others, folder, kind in (
        (of_maps, of_masks, masks, "mask"),
        (of_masks, of_maps, maps, "map"),
    ):
        if alone := sorted(found.keys() - others.keys()):
            name = found[alone[0]]
            raise UserError(f"{folder}: found no {kind} for {name}, expected one of equal name")
    return [(of_maps[name], of_masks[name]) for name in sorted(of_maps)]


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files with these suffixes below a folder, by what counts of their names."""
    paths = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(suffixes))
    if not paths:
        raise UserError(f"{folder}: found no files, expected some of {', '.join(suffixes)}")
    top = os.path.commonpath([path.parent for path in paths])
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(top).with_suffix("").as_posix()
        name = name[: -len(image_suffix(name) or "") or None]
        if name in found:
            raise UserError(f"{path}: found {found[name].name} beside it, expected one of a name")
        found[name] = path
    return found


def _read_map(path: Path) -> NDArray[np.float64]:
    values = _values(path)
    if values.dtype.kind != "f":
        raise UserError(f"{path}: found values of type {values.dtype}, expected floats")
    return values.astype(np.float64)


def _read_mask(path: Path) -> NDArray[np.bool_]:
    """Where a mask is not 0, (*S), in any of the channels of a picture."""
    if not path.name.lower().endswith(MAP_SUFFIXES):
        return (read_samples(path) != 0).any(axis=0)
    values = _values(path)
    if values.dtype.kind not in "buif":
        raise UserError(f"{path}: found values of type {values.dtype}, expected numbers")
    return np.asarray(values != 0)


def _values(path: Path) -> NDArray[Any]:
    """An array, or the voxels of NIfTI."""
    with refusing(path):
        if path.name.lower().endswith(nifti.SUFFIXES):
            return oriented(open_volume(Place(path)), TURNED)[0]
        return np.asarray(np.load(path, allow_pickle=False))
