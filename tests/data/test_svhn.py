"""SVHN: MATLAB files with the images' number last and ten for zero."""

from pathlib import Path

import numpy as np
import pytest

from diffusion_ood.data.sources import svhn
from diffusion_ood.data.sources.base import Place
from diffusion_ood.errors import UserError

scipy_io = pytest.importorskip("scipy.io")


def test_images_come_first_and_ten_is_zero(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    for name in svhn.MD5:
        scipy_io.savemat(tmp_path / name, {"X": pixels, "y": np.uint8([[10], [4]])})
    found = svhn.SOURCE.find(Place("SVHN", tmp_path / "raw", tmp_path))
    assert found is not None
    test = svhn.SOURCE.read(found, 0)["test"]
    assert test.labels == ["0", "4"]
    np.testing.assert_array_equal(test.pixels[1], pixels[..., 1])


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"x" * 200)
    with pytest.raises(UserError, match=r"a\.mat: not a file of SVHN"):
        svhn.read_mat(tmp_path / "a.mat")
