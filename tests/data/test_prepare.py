"""Preparing: the images and splits written, and what a second run does."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.sources import prepare as prepare_module
from diffusion_ood.data.sources.base import (
    ImageArray,
    ImageFiles,
    Part,
    RawFiles,
    RawLocation,
    Source,
    SplitImages,
)
from diffusion_ood.data.sources.prepare import prepare, write_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError

TRAIN = np.arange(40, dtype=np.uint8).repeat(6).reshape(40, 2, 3)
TEST = np.full((3, 2, 3), 200, dtype=np.uint8)


@pytest.fixture
def raw_file(tmp_path: Path) -> Path:
    """The only raw file of the set."""
    path = tmp_path / "source" / "raw.bin"
    path.parent.mkdir()
    path.write_bytes(b"raw")
    return path


def source(**changes: Any) -> Source:
    def read(raw: RawFiles, seed: int) -> SplitImages:
        return {
            "train": ImageArray(TRAIN, [str(i) for i in range(40)]),
            "test": ImageArray(TEST, ["x"] * 3),
        }

    fields = {
        "read": read,
        "counts": {"train": 40, "test": 3},
        "files": {"raw.bin": hashlib.sha256(b"raw").hexdigest()},
    }
    return Source(**{**fields, **changes})


def prepared(raw_file: Path, seed: int = 0, **changes: Any) -> dict[Part, Path]:
    root = raw_file.parents[1] / "root"
    location = RawLocation("Set", root / "Set" / "raw", raw_file.parent)
    return prepare(location, source(**changes), root, seed=seed, num_workers=0)


def no_writing(*_: object) -> None:
    raise AssertionError("written again")


def test_images_and_splits_hold_the_pixels(raw_file: Path) -> None:
    splits = {part: read_split(path) for part, path in prepared(raw_file).items()}
    assert {part: len(split) for part, split in splits.items()} == {
        "train": 38,
        "val": 2,
        "test": 3,
    }
    seen = []
    for part in ("train", "val"):
        split = splits[part]
        assert list(split.images) == sorted(split.images)
        for i, label in enumerate(split.labels):
            assert split.images[i] == f"../Set/train/{int(label):05d}.png"
            np.testing.assert_array_equal(np.asarray(Image.open(split.image_path(i))), int(label))
            seen.append(int(label))
    assert sorted(seen) == list(range(40))
    np.testing.assert_array_equal(np.asarray(Image.open(splits["test"].image_path(2))), TEST[2])


def test_a_second_run_does_nothing_and_says_so(
    raw_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = prepared(raw_file)
    monkeypatch.setattr(prepare_module, "write_images", no_writing)
    assert prepared(raw_file) == splits
    assert "Set: complete already, nothing to do" in capsys.readouterr().out
    raw_file.unlink()  # not needed once the images are there
    assert prepared(raw_file) == splits


@pytest.mark.parametrize(
    "change", ["an image gone", "a split edited", "no manifest", "another seed", "other raw data"]
)
def test_what_is_not_as_it_was_left_is_completed(raw_file: Path, change: str) -> None:
    splits = prepared(raw_file)
    before = {part: path.read_text() for part, path in splits.items()}
    root = raw_file.parents[1] / "root"
    changes, seed = {}, 0
    if change == "an image gone":
        (root / "Set" / "train" / "00007.png").unlink()
    elif change == "a split edited":
        splits["val"].write_text("image\n")
    elif change == "no manifest":
        (root / "Set" / "manifest.json").unlink()
        (root / "Set" / "train" / "00007.png").unlink()
    elif change == "another seed":
        seed = 1
    else:
        raw_file.write_bytes(b"new")
        changes = {"files": {"raw.bin": None}, "counts": {"train": 40, "test": 3}}
        (root / "Set" / "train" / "00007.png").write_bytes(b"old")
    prepared(raw_file, seed, **changes)
    assert Image.open(root / "Set" / "train" / "00007.png").getpixel((0, 0)) == 7
    after = {part: path.read_text() for part, path in splits.items()}
    assert (after == before) == (change != "another seed")
    assert (root / "Set" / "manifest.json").is_file()


def test_wrong_counts_and_digests_write_nothing(raw_file: Path) -> None:
    with pytest.raises(UserError, match=r"Set: .*40.*41"):
        prepared(raw_file, counts={"train": 41, "test": 3})
    raw_file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"raw\.bin: .*sha256 "):
        prepared(raw_file)
    assert not (raw_file.parents[1] / "root" / "data_splits").exists()


def test_the_official_val_is_kept_and_files_stay(raw_file: Path, tmp_path: Path) -> None:
    parts = {
        "train": ImageFiles([tmp_path / "b.jpg", tmp_path / "a.jpg"]),
        "val": ImageFiles([tmp_path / "c.jpg"]),
    }
    splits = prepared(raw_file, read=lambda raw, seed: parts, counts={"train": 2, "val": 1})
    assert read_split(splits["train"]).images == ("../../a.jpg", "../../b.jpg")
    assert read_split(splits["val"]).images == ("../../c.jpg",)
    assert read_split(splits["val"]).labels is None


def test_processes_write_every_image_under_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "CHUNK", 7)
    paths = write_images(tmp_path / "images", ImageArray(TRAIN), 2, "title")
    assert [path.name for path in paths] == [f"{i:05d}.png" for i in range(40)]
    assert [np.asarray(Image.open(path))[0, 0] for path in paths] == list(range(40))
    assert len(list(Path(tmp_path / "images").iterdir())) == 40
