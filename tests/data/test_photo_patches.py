"""PhotoPatches: the photographs, cut into squares."""

from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_ood.data.sources import photo_patches
from diffusion_ood.data.sources.base import Place


def test_patches_tile_the_photographs() -> None:
    raw = photo_patches.SOURCE.find(Place("PhotoPatches", Path("none")))
    assert raw is not None
    parts = photo_patches.SOURCE.read(raw, 0)
    assert list(parts) == ["test"]
    test = parts["test"]
    assert list(test.labels) == ["china"] * 330 + ["flower"] * 330
    grey = np.asarray(Image.open(raw["china.jpg"]).convert("L"))
    np.testing.assert_array_equal(test.pixels[22 + 3], grey[28:56, 84:112])
