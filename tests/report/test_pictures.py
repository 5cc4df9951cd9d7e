"""Pictures that are kept for a report: small, exact where they can be, and tied to their table."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.report.pictures import Pictures, load_pictures, png

CELLS = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5, 1)


def test_pictures_come_back_as_they_were_and_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    kept = Pictures(("a/<b>.png", "c.png"), (10, 20), CELLS, 4, {"seed": 2})
    for name in ("one.npz", "two.npz"):
        kept.save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = load_pictures(tmp_path / "one.npz", {"seed": 2})
    assert found is not None
    assert (found.filenames, found.starts) == (kept.filenames, kept.starts)
    np.testing.assert_array_equal(found.row("c.png"), CELLS[1])
    assert found.row("d.png") is None


def test_pictures_of_another_table_are_not_shown(tmp_path: Path) -> None:
    Pictures(("a",), (10, 20), CELLS[:1], 4, {"seed": 2}).save(tmp_path / "p.npz")
    assert load_pictures(tmp_path / "p.npz", {"seed": 3}) is None
    assert load_pictures(tmp_path / "p.npz", None) is None
    assert load_pictures(tmp_path / "missing.npz", {"seed": 2}) is None
    (tmp_path / "p.npz").write_bytes(b"torn")
    assert load_pictures(tmp_path / "p.npz", {"seed": 2}) is None


@pytest.mark.parametrize(("shape", "mode"), [((4, 5, 1), "L"), ((4, 5, 3), "RGB")])
def test_a_png_holds_the_pixels_and_shrinks_on_request(shape: tuple[int, ...], mode: str) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    image = Image.open(io.BytesIO(png(pixels)))
    assert (image.mode, image.size) == (mode, (5, 4))
    np.testing.assert_array_equal(np.asarray(image).reshape(shape), pixels)
    assert Image.open(io.BytesIO(png(np.zeros((100, 50, 1), np.uint8), 32))).size == (16, 32)
