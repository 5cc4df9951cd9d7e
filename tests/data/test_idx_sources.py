"""MNIST and FashionMNIST: four IDX files, plain or gzipped, of known content."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from diffusion_ood.data.sources.base import RawLocation
from diffusion_ood.data.sources.raw_files import fetch_files, find_files, verify
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SOURCES

IMAGES = np.arange(2 * 28 * 28).astype(np.uint8).reshape(2, 28, 28)


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    sides = struct.pack(f">{array.ndim}i", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sides + array.tobytes()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two images to train and two to test, the latter gzipped."""
    for prefix, suffix in (("train", ""), ("t10k", ".gz")):
        for kind, array in (("images-idx3", IMAGES), ("labels-idx1", np.uint8([7, 3]))):
            content = idx_bytes(array)
            path = tmp_path / f"{prefix}-{kind}-ubyte{suffix}"
            path.write_bytes(gzip.compress(content) if suffix else content)
    return tmp_path


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_plain_and_gzipped_files_are_found_and_read(raw: Path, name: str) -> None:
    source = SOURCES[name]
    found = find_files(RawLocation(name, raw / "none", raw), source.files)
    assert found is not None
    parts = source.read(found, 0)
    for part in ("train", "test"):
        np.testing.assert_array_equal(parts[part].pixels, IMAGES)
        assert parts[part].labels == ["7", "3"]
    assert source.counts == {"train": 60_000, "test": 10_000}
    assert source.is_grayscale


def test_other_content_is_refused_by_its_digest(raw: Path) -> None:
    path = raw / "t10k-labels-idx1-ubyte.gz"
    for name in ("MNIST", "FashionMNIST"):
        digest = SOURCES[name].files["t10k-labels-idx1-ubyte"]
        assert digest is not None
        with pytest.raises(UserError, match=rf"sha256 \w+.*{digest}.*{name}"):
            verify(name, path, digest)
    with gzip.open(path) as file:
        content = file.read()
    verify("MNIST", path, hashlib.sha256(content).hexdigest())


def test_a_torn_file_is_named(raw: Path) -> None:
    path = raw / "t10k-labels-idx1-ubyte.gz"
    for content in (path.read_bytes()[:-9], b"no gzip", b"\x1f\x8b"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz: "):
            verify("MNIST", path, "0" * 64)


def test_a_source_dir_without_the_files_is_not_followed_by_a_download(tmp_path: Path) -> None:
    location = RawLocation("MNIST", tmp_path / "raw", tmp_path)
    with pytest.raises(UserError, match=r"MNIST: .*train-images-idx3-ub"):
        fetch_files(location, SOURCES["MNIST"])


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.utils

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand a page of advice")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", offline)
    with pytest.raises(UserError) as caught:
        fetch_files(RawLocation("MNIST", tmp_path / "raw"), SOURCES["MNIST"])
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz" in message
    assert "no route to host" in message
    assert str(tmp_path / "raw") in message
    assert "`source_dir`" in message
    assert "\n" not in message


DOWNLOADED = (
    *("CelebA", "CIFAR10", "FashionMNIST", "MNIST", "Places365"),
    *("MedNIST", "pathmnist_64", "Task02_Heart"),
)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_what_a_download_gives_is_not_downloaded_twice(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import utils

    def download(url: str, root: Path, filename: str, md5: str) -> None:
        assert len(md5) == 32
        asked.append(filename)
        (root / filename).touch()

    source, raw_dir, asked = SOURCES[name], tmp_path / "raw", list[str]()
    raw_dir.mkdir()
    monkeypatch.setattr(utils, "download_url", download)
    monkeypatch.setattr(utils, "download_file_from_google_drive", download)
    monkeypatch.setattr("diffusion_ood.data.sources.raw_files.verify", lambda *_: None)
    monkeypatch.setattr(
        "diffusion_ood.data.sources.raw_files.unpack",
        lambda archive, target, folder: [
            (target / file).mkdir(parents=True) for file in source.files if file.startswith(folder)
        ],
    )
    found = fetch_files(RawLocation(name, raw_dir), source)
    assert found.keys() == source.files.keys()
    assert asked == [file.name for file in source.downloads]
    assert fetch_files(RawLocation(name, raw_dir), source) == found
    assert len(asked) == len(source.downloads)
