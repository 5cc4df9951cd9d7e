"""CIFAR-10 and CIFAR-100: pickles of arrays, which are opened if their MD5 is the published one."""

import os
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from torchvision import datasets

from diffusion_ood.data.sources import cifar
from diffusion_ood.data.sources.base import RawLocation, SplitImages
from diffusion_ood.data.sources.raw_files import find_files
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SOURCES


def read(name: str, folder: Path) -> SplitImages:
    source = SOURCES[name]
    raw = find_files(RawLocation(name, folder / "raw", folder), source.files)
    assert raw is not None
    return source.read(raw, 0)


def write_batches(folder: Path, dataset: type[datasets.CIFAR10], labels: str) -> None:
    """Batch number i holds two images of value i with the labels 90 + i and i."""
    folder = folder / dataset.base_folder
    folder.mkdir()
    for i, (name, _) in enumerate([*dataset.train_list, *dataset.test_list]):
        rows = np.full((2, 3072), i, dtype=np.uint8)
        rows[0, 1024 + 33] = 99  # green, second row, second column
        (folder / name).write_bytes(pickle.dumps({"data": rows, labels: [90 + i, i]}))
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps({dataset.meta["key"]: []}))


@pytest.fixture
def any_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files pass as the published ones."""
    monkeypatch.setattr(cifar, "verify", lambda *_: None)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *_: True)


def values(pixels: npt.NDArray[np.uint8]) -> list[int]:
    assert pixels.shape[1:] == (32, 32, 3)
    return pixels[:, 0, 0, 0].tolist()


@pytest.mark.usefixtures("any_md5")
def test_batches_are_joined_in_order(tmp_path: Path) -> None:
    write_batches(tmp_path, datasets.CIFAR10, "labels")
    parts = read("CIFAR10", tmp_path)
    assert parts["train"].labels == ["90", "0", "91", "1", "92", "2", "93", "3", "94", "4"]
    assert values(parts["train"].pixels) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert values(parts["test"].pixels) == [5, 5]
    assert parts["test"].pixels[0, 1, 1].tolist() == [5, 99, 5]


@pytest.mark.usefixtures("any_md5")
def test_cifar100_has_the_fine_labels(tmp_path: Path) -> None:
    write_batches(tmp_path, datasets.CIFAR100, "fine_labels")
    parts = read("CIFAR100", tmp_path)
    assert SOURCES["CIFAR100"].counts == {"train": 50_000, "test": 10_000}
    assert parts["train"].labels == ["90", "0"]
    assert parts["test"].labels == ["91", "1"]


class Malicious:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    write_batches(tmp_path, datasets.CIFAR10, "labels")
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(pickle.dumps(Malicious(tmp_path / "made")))
    with pytest.raises(UserError, match=r"data_batch_1: .*md5"):
        read("CIFAR10", tmp_path)
    assert not (tmp_path / "made").exists()


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match="data_batch_1: "):
        read("CIFAR10", tmp_path)
