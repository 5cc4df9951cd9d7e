"""Images that the model of the fixture `trained` knows, and others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffusion_ood.options import ReconstructOptions

JOINED = ReconstructOptions(methods=("joined",), budget=10, scores=("mse",))


def ramps(num: int, seed: int) -> NDArray[np.uint8]:
    """Images `(num, 8, 8)` like those that the model was trained on."""
    rng = np.random.default_rng(seed)
    slopes = rng.integers(60, 250, num)
    return np.stack([np.linspace(0, s, 8)[:, None] * np.ones(8) for s in slopes]).astype(np.uint8)


def noise(num: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8)).astype(np.uint8)


def write(folder: Path, images: list[NDArray[np.uint8]], name: str, per_group: int) -> list[Path]:
    """PNG files in a new folder, of names with the group and the number within it."""
    folder.mkdir(parents=True)
    paths = []
    for k, image in enumerate(images):
        paths.append(folder / f"{name.format(k // per_group, k % per_group)}.png")
        Image.fromarray(image).save(paths[-1])
    return paths
