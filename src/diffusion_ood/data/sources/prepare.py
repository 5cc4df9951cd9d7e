"""From a data set's raw files to PNG files and split CSVs, with a manifest written last."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from diffusion_ood.data.sources.base import (
    Files,
    Part,
    Parts,
    Pixels,
    Place,
    RawFiles,
    Source,
    verify,
)
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import sha256, write_json

FORMAT_VERSION = 1
VAL_FRACTION = 0.05
CHUNK = 1_000  # images a process writes at a time
PNG_COMPRESSION = 1  # of 9; more costs time and saves little on small images


def prepare(
    place: Place, source: Source, data_root: Path, *, seed: int, num_workers: int
) -> dict[Part, Path]:
    """Write the images of one data set and their splits, unless an earlier run has done so.

    Returns:
        The split CSV of each part.

    Raises:
        UserError: its raw files cannot be had, or are not what they should be.
    """
    manifest = data_root / place.name / "manifest.json"
    raw = source.find(place)
    splits = _finished(manifest, raw, data_root, place.name, source, seed)
    if splits:
        print(f"{place.name}: complete already, nothing to do")
        return splits
    raw = raw or source.fetch(place)
    for name, digest in source.digests.items():
        verify(place.name, raw[name], digest)
    parts = source.read(raw, seed)
    counts = {part: len(images) for part, images in parts.items()}
    if counts != source.counts:
        raise UserError(f"{place.name}: found {counts} images, expected {dict(source.counts)}")
    manifest.unlink(missing_ok=True)  # from here on the old one is no longer true
    splits = write_splits(
        place.name, _located(place.name, parts, data_root, num_workers), data_root, seed
    )
    write_json(manifest, _manifest(raw, splits, counts, seed))
    return splits


def split_path(data_root: Path, name: str, part: Part) -> Path:
    """Where the split CSV of a part lies."""
    return data_root / "data_splits" / f"{name}_{part}.csv"


def write_splits(
    name: str, parts: Mapping[Part, Files], data_root: Path, seed: int
) -> dict[Part, Path]:
    """Write one CSV a part, sorted; without `val`, 5 % of `train` becomes it."""
    parts = dict(parts)
    if "train" in parts and "val" not in parts:
        chosen = np.zeros(len(parts["train"]), dtype=bool)
        chosen[np.random.default_rng(seed).permutation(chosen.size)[: val_count(chosen.size)]] = (
            True
        )
        parts["val"] = _subset(parts["train"], chosen)
        parts["train"] = _subset(parts["train"], ~chosen)
    paths = {}
    for part, files in parts.items():
        paths[part] = split_path(data_root, name, part)
        images = [_relative(path, paths[part].parent) for path in files.paths]
        order = sorted(range(len(images)), key=images.__getitem__)
        labels = files.labels and [files.labels[i] for i in order]
        write_split(paths[part], [images[i] for i in order], labels)
        print(f"{paths[part]}: {len(images)} images")
    return paths


def val_count(n: int) -> int:
    """How many of `n` training images (or patients) validate: 5 %, at least one."""
    return max(1, round(VAL_FRACTION * n))


def _subset(files: Files, chosen: npt.NDArray[np.bool_]) -> Files:
    indices: list[int] = np.flatnonzero(chosen).tolist()
    labels = files.labels and [files.labels[i] for i in indices]
    return Files([files.paths[i] for i in indices], labels)


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from `folder`, with `/` on every system."""
    return os.path.relpath(path, folder.resolve()).replace(os.sep, "/")


def _located(name: str, parts: Parts, data_root: Path, num_workers: int) -> dict[Part, Files]:
    """Every part as files, after writing those that are pixels still."""
    located: dict[Part, Files] = {}
    for part, images in parts.items():
        if isinstance(images, Pixels):
            paths = write_images(
                data_root / name / part, images.pixels, num_workers, f"{name} {part}"
            )
            located[part] = Files(paths, images.labels)
        else:
            located[part] = images
    return located


def write_images(
    folder: Path, pixels: npt.NDArray[np.uint8], num_workers: int, title: str
) -> list[Path]:
    """Write (N, H, W[, 3]) as `00000.png`, `00001.png`, … by several processes."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(pixels), CHUNK)
    chunks = [pixels[start : start + CHUNK] for start in starts]
    with tqdm(total=len(pixels), desc=title, unit="image") as bar:
        for chunk, _ in zip(
            chunks, _write_chunks(folder, starts, chunks, num_workers), strict=True
        ):
            bar.update(len(chunk))
    return [_image_path(folder, i) for i in range(len(pixels))]


def _write_chunks(
    folder: Path, starts: Sequence[int], chunks: list[npt.NDArray[np.uint8]], num_workers: int
) -> Iterator[None]:
    folders = [folder] * len(chunks)
    if num_workers < 2 or len(chunks) < 2:
        yield from map(_write_chunk, folders, starts, chunks)
        return
    with ProcessPoolExecutor(num_workers) as pool:
        yield from pool.map(_write_chunk, folders, starts, chunks)


def _write_chunk(folder: Path, start: int, pixels: npt.NDArray[np.uint8]) -> None:
    for i, image in enumerate(pixels, start):
        path = _image_path(folder, i)
        temporary = path.with_suffix(".tmp")  # so that a killed run leaves no torn image
        Image.fromarray(image).save(temporary, "PNG", compress_level=PNG_COMPRESSION)
        os.replace(temporary, path)


def _image_path(folder: Path, i: int) -> Path:
    return folder / f"{i:05d}.png"


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
    manifest: Path,
    raw: RawFiles | None,
    data_root: Path,
    name: str,
    source: Source,
    seed: int,
) -> dict[Part, Path] | None:
    """The splits of an earlier run, if they and all their images are as it left them."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        splits: dict[Part, Path] = {
            part: split_path(data_root, name, part) for part in found["splits"]
        }
        expected = _manifest(raw or {}, splits, source.counts, seed)
        if raw is None:  # they may be gone once the images are written
            expected["raw"] = found["raw"]
        whole = found == expected and all(map(_all_there, splits.values()))
    except (OSError, ValueError, KeyError):
        return None
    return splits if whole else None


def _all_there(split: Path) -> bool:
    images = read_split(split)
    return all(os.path.isfile(images.image_path(i)) for i in range(len(images)))
