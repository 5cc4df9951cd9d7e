"""A data set of one's own, prepared by the program that prepares all others.

    python examples/circles_dataset.py data

To use it: move `SOURCE` to a file of `data/sources/` and add a line to `SOURCES`.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from diffusion_ood import cli
from diffusion_ood.commands import get_datasets
from diffusion_ood.data.sources.base import ImageArray, RawFiles, Source, SplitImages
from diffusion_ood.registries import SOURCES

SIDE = 32


def _read(raw: RawFiles, seed: int) -> SplitImages:
    """Circles of random place and size; the label says whether one is large.

    Nothing is needed from the disk; a downloaded set names its raw files in its `Source`.
    """
    rng = np.random.default_rng(seed)
    return {"train": _circles(rng, 200), "test": _circles(rng, 50)}


def _circles(rng: np.random.Generator, count: int) -> ImageArray:
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(10, SIDE - 10, (count, 2, 1, 1))
    radius = rng.uniform(3, 9, (count, 1, 1))
    distance = np.hypot(y - centre[:, 0], x - centre[:, 1])
    pixels: npt.NDArray[np.uint8] = np.where(distance < radius, 255, 0).astype(np.uint8)
    return ImageArray(pixels, ["large" if r > 6 else "small" for r in radius[:, 0, 0]])


SOURCE = Source(read=_read, counts={"train": 200, "test": 50}, is_grayscale=True)


def main(data_root: str) -> None:
    """Write the images and splits to a folder."""
    SOURCES.places["Circles"] = f"{__name__}:SOURCE"
    get_datasets.main([f"--data_root={data_root}", "--datasets=Circles"])


if __name__ == "__main__":
    cli.run(lambda: main(*(sys.argv[1:] or ["data"])))
