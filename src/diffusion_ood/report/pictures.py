"""Small pictures of images and of their reconstructions, kept in one file a set."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffusion_ood.runtime.files import atomic_write


def pictures_path(ood_dir: Path, name: str) -> Path:
    """Where the pictures of the set `name` lie."""
    return ood_dir / f"pictures_{name}.npz"


@dataclass(frozen=True)
class Pictures:
    """Images of one set beside their reconstructions.

    Attributes:
        filenames: of the images, as their split has them.
        starts: the noise levels t of the reconstructions, rising.
        cells: uint8 `(images, 1 + starts, H, W, channels)`, 1 or 3 channels: each image, then its
            reconstructions.
        per_kind: how many images of each kind were asked for, see `detection.examples`.
        fingerprint: of the score table that they belong to.
    """

    filenames: tuple[str, ...]
    starts: tuple[int, ...]
    cells: NDArray[np.uint8]
    per_kind: int
    fingerprint: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the file, atomically."""
        about = {name: value for name, value in vars(self).items() if name != "cells"}
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), cells=self.cells)

    def row(self, filename: str) -> NDArray[np.uint8] | None:
        """The picture of an image and those of its reconstructions, if they are there."""
        return self.cells[self.filenames.index(filename)] if filename in self.filenames else None


def load_pictures(path: Path, fingerprint: Mapping[str, Any] | None) -> Pictures | None:
    """The pictures in a file; None where there is none that belongs to this fingerprint."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about, cells = json.loads(str(file["about"])), file["cells"]
        filenames, starts = tuple(about["filenames"]), tuple(about["starts"])
        found = Pictures(filenames, starts, cells, about["per_kind"], about["fingerprint"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return found if found.fingerprint == json.loads(json.dumps(fingerprint)) else None


def png(pixels: NDArray[np.uint8], max_side: int | None = None) -> bytes:
    """A PNG of `(H, W, channels)`, made smaller where a side exceeds `max_side`.

    Of the width it is a third, as three planes of a volume lie side by side.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max_side is not None:
        image.thumbnail((3 * max_side, max_side), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()
