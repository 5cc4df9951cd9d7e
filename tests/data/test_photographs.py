"""Textures, Places365 and TinyImageNet: photographs of any size, out of their archives."""

from __future__ import annotations

import dataclasses
import io
import tarfile
import zipfile
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.data.sources import photographs
from diffusion_ood.data.sources.base import ImageArray, RawLocation, Source
from diffusion_ood.data.sources.prepare import prepare
from diffusion_ood.data.sources.raw_files import fetch_files, find_files
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SOURCES

FILES = {
    "Textures": {
        "dtd/images/banded/banded_0002.jpg": (90, 60),
        "dtd/images/zigzagged/zigzagged_0001.jpg": (40, 300),
        "dtd/labels/test1.txt": b"banded/banded_0002.jpg\n",
    },
    "Places365": {
        "val_256/Places365_val_00000001.jpg": (256, 256),
        "val_256/Places365_val_00000002.jpg": (256, 256),
    },
    "TinyImageNet": {
        "tiny-imagenet-200/val/images/val_0.JPEG": (64, 64),
        "tiny-imagenet-200/val/images/val_1.JPEG": (64, 64),
        "tiny-imagenet-200/val/val_annotations.txt": (
            b"val_1.JPEG\tn04067472\t0\t0\t55\t57\nval_0.JPEG\tn03444034\t0\t32\t44\t62\n"
        ),
        "tiny-imagenet-200/train/n01443537/n01443537_boxes.txt": b"",
    },
}
ARCHIVES = {
    "Textures": "dtd-r1.0.1.tar.gz",
    "Places365": "val_256.tar",
    "TinyImageNet": "tiny-imagenet-200.zip",
}
LABELS = {
    "Textures": {"banded", "zigzagged"},
    "Places365": None,
    "TinyImageNet": {"n03444034", "n04067472"},
}


def jpeg(size: tuple[int, int], value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_archive(path: Path, files: Mapping[str, tuple[int, int] | bytes]) -> None:
    """The files under their names; a size is a photograph of one colour, red growing by file."""
    contents = {
        name: content if isinstance(content, bytes) else jpeg(content, 100 * (1 + i))
        for i, (name, content) in enumerate(files.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def of_this_archive(name: str, archive: Path) -> Source:
    """The source, with two images and as if this archive were the published one."""
    source = SOURCES[name]
    (file,) = source.downloads
    assert file.name == archive.name
    mine = dataclasses.replace(file, md5=md5(archive.read_bytes()).hexdigest())
    return dataclasses.replace(source, downloads=[mine], counts={"test": 2})


@pytest.mark.parametrize("name", FILES)
def test_an_archive_becomes_a_test_split_of_32_pixels(name: str, tmp_path: Path) -> None:
    archive = tmp_path / name / "raw" / ARCHIVES[name]
    write_archive(archive, FILES[name])
    location = RawLocation(name, archive.parent)
    with pytest.raises(UserError, match=f"{archive.name}: .*md5"):
        fetch_files(location, SOURCES[name])
    source = of_this_archive(name, archive)
    splits = prepare(location, source, tmp_path, seed=0, num_workers=0)
    split = read_split(splits["test"])
    assert list(splits) == ["test"]
    assert (split.labels and set(split.labels)) == LABELS[name]
    reds = []
    for i in range(2):
        pixels = np.asarray(Image.open(split.image_path(i)))
        assert pixels.shape == (32, 32, 3)
        reds.append(int(pixels[16, 16, 0]))
    assert sorted(round(red, -1) for red in reds) == [100, 200]
    if name == "TinyImageNet":  # the first image is named in the second line
        labels = dict(zip(split.labels or (), reds, strict=True))
        assert labels["n03444034"] < labels["n04067472"]


@pytest.mark.parametrize("name", FILES)
def test_the_numbers_of_photographs_are_those_published(name: str) -> None:
    published = {"Textures": 5_640, "Places365": 36_500, "TinyImageNet": 10_000}
    assert SOURCES[name].counts == {"test": published[name]}


def test_the_shorter_side_shrinks_and_the_middle_stays() -> None:
    picture = np.zeros((64, 192, 3), np.uint8)
    picture[:, 64:128, 0] = 200  # the middle third is red
    found = photographs.shrunk(Image.fromarray(picture))
    assert found.shape == (32, 32, 3)
    assert (found[:, 1:-1, 0] == 200).all()
    assert (found[..., 1:] == 0).all()


def test_the_first_photographs_are_of_all_classes(tmp_path: Path) -> None:
    for i in range(40):
        path = tmp_path / "dtd" / "images" / f"class{i // 20}" / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg((32, 32), i))
    source = SOURCES["Textures"]
    raw = find_files(RawLocation("Textures", tmp_path), source.files)
    assert raw is not None
    test = source.read(raw, 0)["test"]
    assert isinstance(test, ImageArray)
    assert {*(test.labels or ())[:10]} == {"class0", "class1"}
    assert source.read(raw, 0)["test"].labels == test.labels
    assert source.read(raw, 1)["test"].labels != test.labels


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-imagenet-200" / "val"
    (folder / "images").mkdir(parents=True)
    source = SOURCES["TinyImageNet"]
    raw = find_files(RawLocation("TinyImageNet", tmp_path), source.files)
    assert raw is not None
    with pytest.raises(UserError, match=r"val: .*images/\*\.JPEG"):
        source.read(raw, 0)
    (folder / "images" / "val_0.JPEG").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"val_annotations\.txt: "):
        source.read(raw, 0)
    (folder / "val_annotations.txt").write_text("val_1.JPEG\tn04067472\n")
    with pytest.raises(UserError, match=r"val_annotations\.txt.* val_0\.JPEG"):
        source.read(raw, 0)
    (folder / "val_annotations.txt").write_text("val_0.JPEG\tn04067472\n")
    with pytest.raises(UserError, match=r"val_0\.JPEG: "):
        source.read(raw, 0)


def test_an_archive_without_the_folder_is_refused(tmp_path: Path) -> None:
    archive, location = tmp_path / ARCHIVES["Places365"], RawLocation("Places365", tmp_path)
    write_archive(archive, {"other/a.jpg": (32, 32)})
    with pytest.raises(UserError, match="val_256"):
        fetch_files(location, of_this_archive("Places365", archive))
    archive.write_bytes(b"torn")
    with pytest.raises(UserError, match=archive.name):
        fetch_files(location, of_this_archive("Places365", archive))
    assert not (tmp_path / "val_256").exists()
