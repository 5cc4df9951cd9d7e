"""MNIST5k: five hundred of each digit, one hundred of which test."""

from collections import Counter

import numpy as np

from diffusion_ood.data.sources import mnist5k


def test_the_test_set_holds_a_hundred_of_each_digit() -> None:
    parts = mnist5k.SOURCE.read({}, 0)
    digits = map(str, range(10))
    assert Counter(parts["test"].labels) == dict.fromkeys(digits, 100)
    assert {part: len(images) for part, images in parts.items()} == mnist5k.SOURCE.counts
    pixels = np.concatenate([parts["train"].pixels, parts["test"].pixels])
    assert pixels.shape == (5_000, 28, 28)
    assert pixels.max() == 255
    assert min(Counter(parts["test"].labels[:200]).values()) > 5  # the first ones are mixed
    assert len(np.unique(pixels.reshape(5_000, -1), axis=0)) > 4_990  # no image in both parts
