"""Images that are left out: which, why, and what the others are then called."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.loaders import ImageSet, image_batches, open_images
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, LoadingOptions

GREY = ImageOptions(is_grayscale=True)
LEFT = [0, 2, 3, 5]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of 3 x 4 pixels, number i all of value 10 i; 1 is torn, 4 of another size."""
    for i in range(6):
        Image.new("L", (4, 3), 10 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:45])
    Image.new("L", (5, 3)).save(tmp_path / "4.png")
    write_split(tmp_path / "A_test.csv", [f"{i}.png" for i in range(6)], list("abcdef"))
    return tmp_path


def opened(folder: Path, cache: bool = True, on_error: str = "skip", workers: int = 0) -> ImageSet:
    loading = LoadingOptions(cache_data=cache, on_error=on_error, num_workers=workers)
    return open_images(read_split(folder / "A_test.csv"), GREY, loading, progress=False)


def values(images: ImageSet) -> list[int]:
    (batch,) = image_batches(images, [list(range(len(images)))], 0)
    return (batch[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_others_keep_their_names_labels_and_pixels(
    folder: Path, cache: bool, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffusion_ood.data.decoding.CHUNK_IMAGES", 2)
    images = opened(folder, cache, workers=workers)
    assert images.split.images == tuple(f"{i}.png" for i in LEFT)
    assert images.split.labels == ("a", "c", "d", "f")
    assert values(images) == [10 * i for i in LEFT]
    assert [images.split.where(k)[-5:] for k in range(4)] == ["row 2", "row 4", "row 5", "row 7"]
    (torn, other) = images.skipped
    assert (torn.path, torn.row, other.path, other.row) == ("1.png", 3, "4.png", 6)
    assert "1.png: not a whole image" in torn.reason
    assert "4.png: found 3 x 5 pixels, expected 3 x 4 as in" in other.reason


def test_what_was_packed_without_them_does_not_hide_them_later(folder: Path) -> None:
    opened(folder)
    with pytest.raises(UserError, match=r"A_test\.csv, row 3: .*1\.png: "):
        opened(folder, on_error="stop")
    assert len(opened(folder).skipped) == 2


def test_an_image_that_can_be_read_again_is_not_skipped_again(folder: Path) -> None:
    opened(folder)
    Image.new("L", (4, 3), 77).save(folder / "1.png")
    images = opened(folder)
    assert values(images) == [0, 77, 20, 30, 50]
    assert [image.path for image in images.skipped] == ["4.png"]


def test_what_is_whole_is_packed_without_a_pass_to_look_for_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(folder / "A_test.csv", [f"{i}.png" for i in LEFT])
    before = opened(folder)
    monkeypatch.setattr("diffusion_ood.data.decoding.read_image", lambda *_: pytest.fail("decoded"))
    assert before.packed
    assert opened(folder).packed
    assert before.skipped == ()


def test_those_that_can_be_read_are_packed(folder: Path) -> None:
    assert opened(folder).packed
    assert not opened(folder, cache=False).packed
    assert len(list((folder / ".cache").glob("*.npy"))) == 1


def test_a_missing_image_is_skipped_and_found_when_it_is_there(folder: Path) -> None:
    away = folder / "5.png"
    os.replace(away, folder / "elsewhere")
    assert [image.path for image in opened(folder).skipped] == ["1.png", "4.png", "5.png"]
    os.replace(folder / "elsewhere", away)
    assert values(opened(folder)) == [10 * i for i in LEFT]


def test_no_image_at_all_is_an_error(folder: Path) -> None:
    for i in range(6):
        (folder / f"{i}.png").write_text("text")
    for cache in (True, False):
        with pytest.raises(UserError, match=r"A_test\.csv: .* row 2: .*0\."):
            opened(folder, cache)
    assert not list((folder / ".cache").iterdir())


def test_a_first_image_that_cannot_be_read_sets_no_size_and_no_type(folder: Path) -> None:
    (folder / "0.png").write_text("text")
    values_16 = np.full((3, 4), 65_535, dtype=np.uint16)
    Image.fromarray(values_16).save(folder / "2.png")
    images = opened(folder)
    assert images.shape == (1, 3, 4)
    assert values(images) == [255, 30, 50]
