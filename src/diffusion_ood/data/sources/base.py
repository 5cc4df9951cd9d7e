"""What a data set is: where its raw files are found or fetched, and how they are read."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from diffusion_ood.errors import UserError

Part = Literal["train", "val", "test"]
RawFiles = dict[str, Path]


@dataclass(frozen=True)
class Place:
    """Where the raw files of one data set may lie.

    Attributes:
        name: of the data set.
        raw_dir: `data_root/NAME/raw`, where downloads go.
        source_dir: a folder of the user's with raw files, which excludes downloads.
        download: whether missing files may be downloaded.
    """

    name: str
    raw_dir: Path
    source_dir: Path | None = None
    download: bool = True

    @property
    def folders(self) -> list[Path]:
        """The folders to look in, in this order."""
        if self.source_dir is None:
            return [self.raw_dir]
        source = self.source_dir
        return [source / self.name / "raw", source / self.name, source, self.raw_dir]


@dataclass(frozen=True)
class Pixels:
    """Images that are to be written: (N, H, W) or (N, H, W, 3) uint8, and a label each."""

    pixels: npt.NDArray[np.uint8]
    labels: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Files:
    """Images that are files already and stay where they are."""

    paths: Sequence[Path]
    labels: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.paths)


Parts = Mapping[Part, "Pixels | Files"]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        find: its raw files by name, or None if one is missing.
        fetch: downloads or unpacks what is missing, or raises a `UserError`.
        read: the images of its parts from the raw files and the seed; without `val`, 5 % of
            `train` becomes it.
        counts: how many images each part must have.
        digests: MD5 or SHA-256 of raw files, of their uncompressed content.
        is_grayscale: whether its images have one channel.
    """

    find: Callable[[Place], RawFiles | None]
    fetch: Callable[[Place], RawFiles]
    read: Callable[[RawFiles, int], Parts]
    counts: Mapping[Part, int]
    digests: Mapping[str, str] = field(default_factory=dict)
    is_grayscale: bool = False


def find_files(place: Place, names: Sequence[str]) -> RawFiles | None:
    """The files or folders of these names, each as it is or with `.gz`, or None."""
    found = {}
    for name in names:
        candidates = (
            path for folder in place.folders for path in (folder / name, folder / f"{name}.gz")
        )
        path = next(filter(Path.exists, candidates), None)
        if path is None:
            return None
        found[name] = path
    return found


def missing(place: Place, names: Sequence[str], reason: str) -> UserError:
    """The sentence about files that cannot be had: which, where to put them, how to go on."""
    return UserError(
        f"{place.name}: {reason}; put {', '.join(names)} into {place.raw_dir} and run again, "
        "or give the folder that holds them with `source_dir`=FOLDER"
    )


def open_maybe_gzip(path: Path) -> IO[bytes]:
    """Open a file of bytes, uncompressing it if its name ends with `.gz`."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value] # gzip's file reads bytes


def verify(name: str, path: Path, expected: str) -> None:
    """Compare the MD5 or SHA-256 of a file's uncompressed content, by the digest's length.

    Raises:
        UserError: it is another file, or a damaged one.
    """
    kind = {32: "md5", 64: "sha256"}[len(expected)]
    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        with open_maybe_gzip(path) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read whole ({error})") from None
    if digest.hexdigest() != expected:
        raise UserError(
            f"{path}: found {kind} {digest.hexdigest()}, expected {expected} for {name}; "
            "the file is damaged or belongs to another data set"
        )
