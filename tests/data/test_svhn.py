"""SVHN: MATLAB files with the images' number last and ten for zero."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from diffusion_ood.data.sources import svhn
from diffusion_ood.data.sources.base import RawLocation
from diffusion_ood.data.sources.raw_files import find_files


def test_images_come_first_and_ten_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.svhn, "check_integrity", lambda *_: True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    for name in svhn.SOURCE.files:
        savemat(tmp_path / name, {"X": pixels, "y": np.uint8([[10], [4]])})
    found = find_files(RawLocation("SVHN", tmp_path / "raw", tmp_path), svhn.SOURCE.files)
    assert found is not None
    test = svhn.SOURCE.read(found, 0)["test"]
    assert test.labels == ["0", "4"]
    np.testing.assert_array_equal(test.pixels[1], pixels[..., 1])
