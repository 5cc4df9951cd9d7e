"""PhotoPatches: the photographs, cut into squares."""

from collections import Counter

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from diffusion_ood.data.sources import photo_patches


def test_patches_tile_the_photographs() -> None:
    parts = photo_patches.SOURCE.read({}, 0)
    assert list(parts) == ["test"]
    test = parts["test"]
    assert Counter(test.labels) == {"china": 330, "flower": 330}
    grey = np.asarray(Image.open(load_sample_images().filenames[0]).convert("L"))
    (found,) = np.flatnonzero((test.pixels == grey[28:56, 84:112]).all((1, 2)))
    assert test.labels[found] == "china"


def test_the_first_patches_are_of_both_photographs() -> None:
    first = Counter(photo_patches.SOURCE.read({}, 0)["test"].labels[:100])
    assert min(first["china"], first["flower"]) > 30
