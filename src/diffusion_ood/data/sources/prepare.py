"""From a data set's raw files to PNG files and split CSVs, with a manifest written last."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from diffusion_ood.data.sources.base import (
    ImageArray,
    ImageFiles,
    Part,
    RawFiles,
    RawLocation,
    Source,
)
from diffusion_ood.data.sources.raw_files import fetch_files, find_files, verify
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write, sha256, write_json
from diffusion_ood.runtime.words import counted

FORMAT_VERSION = 1
VAL_FRACTION = 0.05
CHUNK = 100  # images a process writes at a time
PNG_COMPRESSION = 1  # of 9; more costs time and saves little on small images


def prepare(
    location: RawLocation, source: Source, data_root: Path, *, seed: int, num_workers: int
) -> dict[Part, Path]:
    """Write the images of one data set and their splits, unless an earlier run has done so.

    Returns:
        The split CSV of each part.

    Raises:
        UserError: its raw files are not available, or differ from the published ones.
    """
    name = location.name
    manifest = data_root / name / "manifest.json"
    raw = find_files(location, source.files)
    splits = _finished(manifest, raw, data_root, name, source, seed)
    if splits:
        print(f"{name}: complete already, nothing to do")
        return splits
    if raw is None:
        raw = fetch_files(location, source)
    for file, digest in source.files.items():
        if digest:
            verify(name, raw[file], digest)
    parts = source.read(raw, seed)
    counts = {part: len(images) for part, images in parts.items()}
    for part, count in (source.counts or {}).items():
        if counts.get(part) != count:
            raise UserError(
                f"{name}: found {counts.get(part, 0)} images of {part}, expected {count}; splits "
                "of a sample of it are made with `image_folder`"
            )
    manifest.unlink(missing_ok=True)  # it describes the old files
    files = {
        part: _as_files(images, data_root / name / part, num_workers, f"{name} {part}")
        for part, images in parts.items()
    }
    splits = write_splits(name, files, data_root, seed)
    write_json(manifest, _manifest(raw, splits, counts, seed))
    return splits


def split_path(data_root: Path, name: str, part: Part) -> Path:
    """Where the split CSV of a part lies."""
    return data_root / "data_splits" / f"{name}_{part}.csv"


def write_splits(
    name: str, parts: Mapping[Part, ImageFiles], data_root: Path, seed: int
) -> dict[Part, Path]:
    """Write one CSV a part, sorted; without `val`, 5 % of `train` becomes it."""
    parts = dict(parts)
    if "train" in parts and "val" not in parts:
        mixed = np.random.default_rng(seed).permutation(len(parts["train"]))
        n_val = val_count(mixed.size)
        parts["val"] = _subset(parts["train"], mixed[:n_val])
        parts["train"] = _subset(parts["train"], mixed[n_val:])
    paths = {}
    for part, files in parts.items():
        paths[part] = split_path(data_root, name, part)
        images = [relative_path(path, paths[part].parent) for path in files.paths]
        order = sorted(range(len(images)), key=images.__getitem__)
        labels = files.labels and [files.labels[i] for i in order]
        write_split(paths[part], [images[i] for i in order], labels)
        print(f"{paths[part]}: {counted(len(images), 'image')}")
    return paths


def val_count(n: int) -> int:
    """How many of `n` training images (or patients) validate: 5 %, at least one."""
    return max(1, round(VAL_FRACTION * n))


def _subset(files: ImageFiles, indices: npt.NDArray[np.int64]) -> ImageFiles:
    labels = files.labels and [files.labels[i] for i in indices]
    return ImageFiles([files.paths[i] for i in indices], labels)


def relative_path(path: Path, folder: Path) -> str:
    """A path as seen from `folder`, with `/` on every system; UserError where it is no UTF-8."""
    relative = os.path.relpath(path, folder.resolve()).replace(os.sep, "/")
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{path}: the path is not UTF-8; rename the file or folder") from None
    return relative


def _as_files(
    images: ImageArray | ImageFiles, folder: Path, num_workers: int, title: str
) -> ImageFiles:
    """The images as files, after writing those that are an array."""
    if isinstance(images, ImageFiles):
        return images
    return ImageFiles(write_images(folder, images, num_workers, title), images.labels)


def write_images(folder: Path, images: ImageArray, num_workers: int, title: str) -> list[Path]:
    """Write images as `00000.png`, `00001.png`, … by several processes; few of them are held."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".npy" if images.is_volumes else ".png" if images.affine is None else ".nii.gz"
    write = partial(_write_image, images.affine)
    paths = [folder / f"{i:05d}{suffix}" for i in range(len(images))]
    pairs = iter(tqdm(zip(paths, images.pixels, strict=True), title, len(paths), unit="image"))
    if num_workers < 2 or len(paths) <= CHUNK:
        for pair in pairs:
            write(pair)
    else:
        with ProcessPoolExecutor(num_workers) as pool:
            while some := list(islice(pairs, num_workers * CHUNK)):
                list(pool.map(write, some, chunksize=CHUNK))
    return paths


def _write_image(
    affine: npt.NDArray[np.float64] | None, pair: tuple[Path, npt.NDArray[np.uint8]]
) -> None:
    path, image = pair
    if affine is not None:
        _write_volume(affine, path, image)
        return
    with atomic_write(path, "wb") as file:  # so that a killed run leaves no torn image
        if path.suffix == ".npy":
            np.save(file, image)
        else:
            Image.fromarray(image).save(file, "PNG", compress_level=PNG_COMPRESSION)


def _write_volume(affine: npt.NDArray[np.float64], path: Path, voxels: npt.NDArray[Any]) -> None:
    import nibabel

    volume = nibabel.Nifti1Image(voxels, affine)
    volume.header.set_xyzt_units("mm")
    with atomic_write(path, "wb") as file:
        file.write(gzip.compress(volume.to_bytes(), mtime=0))  # equal bytes, whenever it is written


def _manifest(
    raw: RawFiles, splits: Mapping[Part, Path], counts: Mapping[Part, int], seed: int
) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "seed": seed,
        "counts": dict(counts),
        "raw": {name: sha256(path) for name, path in raw.items() if path.is_file()},
        "splits": {part: sha256(path) for part, path in splits.items()},
    }


def _finished(
    manifest: Path, raw: RawFiles | None, data_root: Path, name: str, source: Source, seed: int
) -> dict[Part, Path] | None:
    """The splits of an earlier run, if they and all their images are as it left them."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        splits: dict[Part, Path] = {
            part: split_path(data_root, name, part) for part in found["splits"]
        }
        expected = _manifest(raw or {}, splits, source.counts or found["counts"], seed)
        if not expected["raw"]:  # they may be gone once the images are written
            expected["raw"] = found["raw"]
        whole = found == expected and all(map(_all_there, splits.values()))
    except (OSError, ValueError, KeyError):
        return None
    return splits if whole else None


def _all_there(split: Path) -> bool:
    images = read_split(split)
    return all(os.path.isfile(images.image_path(i)) for i in range(len(images)))
