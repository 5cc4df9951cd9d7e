"""PhotoPatches: 660 grey patches, 28 x 28, of scikit-learn's two photographs; only a test set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from diffusion_ood.data.sources.base import ImageArray, RawFiles, Source, SplitImages

SIDE = 28


def _read(raw: RawFiles, seed: int) -> SplitImages:
    patches, labels = [], []
    for path in sorted(map(Path, load_sample_images().filenames)):
        with Image.open(path) as photograph:
            grey = np.asarray(photograph.convert("L"))
        rows, columns = grey.shape[0] // SIDE, grey.shape[1] // SIDE
        whole = grey[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
        patches.append(whole.swapaxes(1, 2).reshape(-1, SIDE, SIDE))
        labels += [path.stem] * (rows * columns)
    mixed = np.random.default_rng(seed).permutation(len(labels))  # else the first N are all sky
    return {"test": ImageArray(np.concatenate(patches)[mixed], [labels[i] for i in mixed])}


SOURCE = Source(read=_read, counts={"test": 660}, is_grayscale=True)
