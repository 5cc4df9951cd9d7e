"""CIFAR-10 and CIFAR-100: pickles of arrays, read without running what else they hold."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from diffusion_ood.data.sources import cifar10
from diffusion_ood.data.sources.base import Place
from diffusion_ood.errors import UserError
from diffusion_ood.registries import SOURCES


def write_batch(
    path: Path, rows: npt.NDArray[np.uint8], labels: list[int], kind: bytes = b"labels"
) -> None:
    """Write a batch as Python 2 pickled the published ones: protocol 2, with strings of bytes."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"K%cM\x00\x0c\x86" % len(rows)
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", rows.nbytes)
        + rows.tobytes()
        + b"tb"
    )
    numbers = b"](" + b"".join(b"K%c" % label for label in labels) + b"e"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x80\x02}(U\x04data" + array + b"U%c" % len(kind) + kind + numbers + b"u.")


def test_a_row_is_three_planes_of_32_by_32(tmp_path: Path) -> None:
    row = np.repeat(np.uint8([10, 20, 30]), 1024)
    row[33] = 99  # red, second row, second column
    write_batch(tmp_path / "batch", row[None], [6])
    images, labels = cifar10.read_batch(tmp_path / "batch")
    assert (images.shape, labels) == ((1, 32, 32, 3), ["6"])
    np.testing.assert_array_equal(images[0, 0, 0], [10, 20, 30])
    np.testing.assert_array_equal(images[0, 1, 1], [99, 20, 30])


def test_batches_are_joined_in_order(tmp_path: Path) -> None:
    for i, name in enumerate(cifar10.FILES):
        write_batch(tmp_path / name, np.full((1, 3072), i, dtype=np.uint8), [i])
    found = cifar10.SOURCE.find(Place("CIFAR10", tmp_path / "raw", tmp_path))
    assert found is not None
    parts = cifar10.SOURCE.read(found, 0)
    assert parts["train"].labels == ["0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(parts["train"].pixels[:, 0, 0, 0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(parts["test"].pixels[:, 0, 0, 0], [5])


def test_cifar100_has_the_fine_labels(tmp_path: Path) -> None:
    source = SOURCES["CIFAR100"]
    for i, part in enumerate(("train", "test")):
        rows = np.full((2, 3072), i, dtype=np.uint8)
        write_batch(tmp_path / "cifar-100-python" / part, rows, [97, i], b"fine_labels")
    found = source.find(Place("CIFAR100", tmp_path / "raw", tmp_path))
    assert found is not None
    assert source.digests.keys() == found.keys()
    assert source.counts == {"train": 50_000, "test": 10_000}
    parts = source.read(found, 0)
    assert parts["train"].labels == ["97", "0"]
    assert parts["test"].labels == ["97", "1"]
    np.testing.assert_array_equal(parts["test"].pixels, np.ones((2, 32, 32, 3)))


class Malicious:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps(Malicious(tmp_path / "made")))
    with pytest.raises(UserError, match=r"found \w+\.mkdir, expected arrays alone"):
        cifar10.read_batch(tmp_path / "batch")
    assert not (tmp_path / "made").exists()


def test_damaged_batches_are_named(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(b"\x80\x02}q")
    with pytest.raises(UserError, match="batch: not a batch of CIFAR"):
        cifar10.read_batch(tmp_path / "batch")
    write_batch(tmp_path / "batch", np.zeros((2, 3072), np.uint8), [1])
    with pytest.raises(UserError, match="1 labels"):
        cifar10.read_batch(tmp_path / "batch")
