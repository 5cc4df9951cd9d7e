"""CelebA: the official partition of files that stay where they are."""

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest

from diffusion_ood.data.sources import celeba
from diffusion_ood.data.sources.base import ImageArray, ImageFiles, RawLocation
from diffusion_ood.data.sources.raw_files import fetch_files, find_files, unpack
from diffusion_ood.errors import UserError

LINES = ["000001.jpg 0", "000002.jpg 2", "000003.jpg 1", "000004.jpg 0"]


@pytest.fixture
def location(tmp_path: Path) -> RawLocation:
    """Four images and their partition in the raw folder, and no downloads."""
    (tmp_path / celeba.IMAGES).mkdir()
    for line in LINES:
        (tmp_path / celeba.IMAGES / line.split()[0]).touch()
    (tmp_path / celeba.PARTITION).write_text("\n".join(LINES) + "\n")
    return RawLocation("CelebA", tmp_path, download=False)


def names(part: ImageArray | ImageFiles) -> list[str]:
    assert isinstance(part, ImageFiles)
    return [path.name for path in part.paths]


def test_the_official_partition_is_kept(location: RawLocation) -> None:
    raw = find_files(location, celeba.SOURCE.files)
    assert raw is not None
    parts = celeba.SOURCE.read(raw, 0)
    assert names(parts["train"]) == ["000001.jpg", "000004.jpg"]
    assert names(parts["val"]) == ["000003.jpg"]
    assert names(parts["test"]) == ["000002.jpg"]


def test_a_missing_image_is_named(location: RawLocation) -> None:
    raw = find_files(location, celeba.SOURCE.files)
    assert raw is not None
    (raw[celeba.IMAGES] / "000003.jpg").unlink()
    with pytest.raises(UserError, match=r"img_align_celeba: .*000003\.jpg"):
        celeba.SOURCE.read(raw, 0)


def test_missing_files_are_named_when_downloads_are_off(tmp_path: Path) -> None:
    location = RawLocation("CelebA", tmp_path / "CelebA" / "raw", download=False)
    with pytest.raises(UserError, match=r"img_align_celeba\.zip, list_eval_partition\.txt"):
        fetch_files(location, celeba.SOURCE)


def test_an_archive_that_lies_there_is_unpacked(location: RawLocation) -> None:
    folder = location.raw_dir / celeba.IMAGES
    archive = location.raw_dir / celeba.ARCHIVE
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{celeba.IMAGES}/000001.jpg", b"unpacked")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(UserError, match=r"celeba\.zip: .*md5"):
        fetch_files(location, celeba.SOURCE)
    assert not folder.exists()
    images, partition = celeba.SOURCE.downloads
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    mine = dataclasses.replace(
        celeba.SOURCE, downloads=[dataclasses.replace(images, md5=md5), partition]
    )
    raw = fetch_files(location, mine)
    assert (raw[celeba.IMAGES] / "000001.jpg").read_bytes() == b"unpacked"


def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.zip: "):
        unpack(tmp_path / "a.zip", tmp_path / "raw", celeba.IMAGES)
    assert list((tmp_path / "raw").iterdir()) == []
