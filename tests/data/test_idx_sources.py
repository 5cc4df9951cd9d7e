"""MNIST and FashionMNIST: four IDX files, plain or gzipped, of known content."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from diffusion_ood.data.sources import base, idx
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SOURCES

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


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
    found = source.find(base.Place(name, raw / "none", raw))
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
        digest = SOURCES[name].digests["t10k-labels-idx1-ubyte"]
        with pytest.raises(UserError, match=rf"found sha256 \w+, expected {digest} for {name}"):
            base.verify(name, path, digest)
    with gzip.open(path) as file:
        content = file.read()
    base.verify("MNIST", path, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x00\x00\x09\x01\x00\x00\x00\x00", "expected an IDX file of bytes"),
        (idx_bytes(IMAGES)[:-1], r"found 23 values, expected those of shape \(2, 3, 4\)"),
        (b"", "expected an IDX file"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        idx.read_idx(tmp_path / "a")
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"a\.gz: cannot be read whole"):
        idx.read_idx(tmp_path / "a.gz")


def test_a_source_dir_without_the_files_is_not_followed_by_a_download(tmp_path: Path) -> None:
    place = base.Place("MNIST", tmp_path / "raw", tmp_path)
    with pytest.raises(UserError, match=r"MNIST: not all of its files .* put train-images-idx3-ub"):
        SOURCES["MNIST"].fetch(place)


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.utils

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand a page of advice")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", offline)
    place = base.Place("MNIST", tmp_path / "raw")
    with pytest.raises(UserError) as caught:
        SOURCES["MNIST"].fetch(place)
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz cannot be downloaded (no route to host); put" in message
    assert f"into {tmp_path / 'raw'} and run again" in message
    assert "`source_dir`=FOLDER" in message
    assert "\n" not in message
