"""PhotoPatches: 660 grey patches, 28 x 28, of scikit-learn's two photographs; a test set alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_ood.data.sources.base import Parts, Pixels, Place, RawFiles, Source

SIDE = 28


def _find(place: Place) -> RawFiles:
    from sklearn.datasets import load_sample_images

    return {Path(path).name: Path(path) for path in load_sample_images().filenames}


def _read(raw: RawFiles, seed: int) -> Parts:
    patches, labels = [], []
    for name, path in sorted(raw.items()):
        with Image.open(path) as photograph:
            grey = np.asarray(photograph.convert("L"))
        rows, columns = grey.shape[0] // SIDE, grey.shape[1] // SIDE
        whole = grey[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
        patches.append(whole.swapaxes(1, 2).reshape(-1, SIDE, SIDE))
        labels += [Path(name).stem] * (rows * columns)
    mixed = np.random.default_rng(seed).permutation(len(labels))  # else the first N are all sky
    return {"test": Pixels(np.concatenate(patches)[mixed], [labels[i] for i in mixed])}


SOURCE = Source(find=_find, fetch=_find, read=_read, counts={"test": 660}, is_grayscale=True)
