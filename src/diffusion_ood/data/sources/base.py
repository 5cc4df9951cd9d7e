"""What a data set is: which raw files it is published as, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Part = str
"""`train`, `val` or `test`; of one of several sets of a source, `SET_train` and so on."""

PARTS: tuple[Part, ...] = ("train", "val", "test")
RawFiles = dict[str, Path]


@dataclass(frozen=True)
class RawLocation:
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


class Pixels(Protocol):
    """What is iterated over once, of a known length; an array, or what reads a file meanwhile."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class ImageArray:
    """Images that are written as files, uint8, and a label each.

    Attributes:
        pixels: N of (H, W) or (H, W, 3), for PNG; or N of (X, Y, Z), for NPY or NIfTI.
        labels: N texts.
        is_volumes: whether they are (X, Y, Z).
        affine: of volumes for NIfTI, voxel index to millimetres (RAS+), (4, 4).
    """

    pixels: Pixels
    labels: Sequence[str] | None = None
    affine: npt.NDArray[np.float64] | None = None
    is_volumes: bool = False

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files already and stay where they are."""

    paths: Sequence[Path]
    labels: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.paths)


SplitImages = Mapping[Part, ImageArray | ImageFiles]


@dataclass(frozen=True)
class Download:
    """A file that a data set is published as.

    Attributes:
        name: of the file.
        url: where it is published; `drive:ID` on Google Drive.
        md5: of the file; by its length, its SHA-256 is taken as well.
        folder: the top folder of an archive, which is unpacked; None for a raw file.
    """

    name: str
    url: str
    md5: str
    folder: str | None = None


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        read: the images of its parts from the raw files and the seed; without `val`, 5 % of
            `train` becomes it.
        counts: how many images each part must have; None where that is not published.
        files: the raw files and folders that `read` needs, each with the MD5 or SHA-256 of its
            uncompressed content, or None where `read` checks it.
        downloads: what gives the raw files that are missing.
        is_grayscale: whether its images have one channel.
        options: other options of train_ddpm.py that its images need.
        raw_name: the folder below `data_root` of its raw files, where several sets share them.
    """

    read: Callable[[RawFiles, int], SplitImages]
    counts: Mapping[Part, int] | None
    files: Mapping[str, str | None] = field(default_factory=dict)
    downloads: Sequence[Download] = ()
    is_grayscale: bool = False
    options: Mapping[str, int] = field(default_factory=dict)
    raw_name: str | None = None
