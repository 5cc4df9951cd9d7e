"""CelebA: the official partition of files that stay where they are."""

import zipfile
from pathlib import Path

import pytest

from diffusion_ood.data.sources import celeba
from diffusion_ood.data.sources.archives import unpack
from diffusion_ood.data.sources.base import Files, Pixels, Place
from diffusion_ood.errors import UserError

LINES = ["000001.jpg 0", "000002.jpg 2", "000003.jpg 1", "000004.jpg 0"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Four images and their partition in the raw folder, and no downloads."""
    (tmp_path / celeba.IMAGES).mkdir()
    for line in LINES:
        (tmp_path / celeba.IMAGES / line.split()[0]).touch()
    (tmp_path / celeba.PARTITION).write_text("\n".join(LINES) + "\n")
    return Place("CelebA", tmp_path, download=False)


def names(part: Pixels | Files) -> list[str]:
    assert isinstance(part, Files)
    return [path.name for path in part.paths]


def test_the_official_partition_is_kept(place: Place) -> None:
    raw = celeba.SOURCE.find(place)
    assert raw is not None
    parts = celeba.SOURCE.read(raw, 0)
    assert names(parts["train"]) == ["000001.jpg", "000004.jpg"]
    assert names(parts["val"]) == ["000003.jpg"]
    assert names(parts["test"]) == ["000002.jpg"]
    assert parts["test"].paths[0].is_file()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("000009.jpg 1", "000009.jpg is missing, which row 5"),
        ("000009.jpg", "row 5: found '000009"),
    ],
)
def test_a_wrong_partition_is_named(place: Place, line: str, sentence: str) -> None:
    raw = celeba.SOURCE.find(place)
    assert raw is not None
    raw[celeba.PARTITION].write_text("\n".join([*LINES, line]))
    with pytest.raises(UserError, match=sentence):
        celeba.SOURCE.read(raw, 0)


def test_missing_files_are_named_when_downloads_are_off(tmp_path: Path) -> None:
    place = Place("CelebA", tmp_path / "CelebA" / "raw", download=False)
    with pytest.raises(
        UserError, match=r"put img_align_celeba\.zip, list_eval_partition\.txt into"
    ):
        celeba.SOURCE.fetch(place)


def test_an_archive_that_lies_there_is_unpacked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.raw_dir / celeba.IMAGES
    archive = place.raw_dir / celeba.ARCHIVE
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{celeba.IMAGES}/000001.jpg", b"unpacked")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(UserError, match=r"celeba\.zip: found md5"):
        celeba.SOURCE.fetch(place)
    assert not folder.exists()
    monkeypatch.setattr(celeba, "verify", lambda *_: None)
    raw = celeba.SOURCE.fetch(place)
    assert (raw[celeba.IMAGES] / "000001.jpg").read_bytes() == b"unpacked"


def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.zip: not a whole ZIP file"):
        unpack(tmp_path / "a.zip", tmp_path / "raw", celeba.IMAGES)
    assert list((tmp_path / "raw").iterdir()) == []
