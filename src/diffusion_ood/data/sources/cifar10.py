"""CIFAR-10 (Krizhevsky 2009): 60,000 colour pictures of ten classes, 32 x 32 pixels."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ood.data.sources.archives import fetch_archive
from diffusion_ood.data.sources.base import (
    Parts,
    Pixels,
    Place,
    RawFiles,
    Source,
    find_files,
)
from diffusion_ood.errors import UserError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"{FOLDER}/data_batch_{i}" for i in range(1, 6))
TEST = f"{FOLDER}/test_batch"
FILES = (*TRAIN, TEST)
SIDE = 32

# What a batch file is made of; NumPy 2 has moved the function that restores an array.
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays, bytes, lists and dictionaries; a pickle that asks for more is refused."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's signature
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"found {module}.{name}, expected arrays alone")
        return ADMITTED[module, name]


def read_batch(path: Path, kind: str = "labels") -> tuple[np.ndarray[Any, Any], list[str]]:
    """The images (N, 32, 32, 3) of a batch file, and their labels of a kind.

    Raises:
        UserError: it is no such file, or holds more than arrays.
    """
    try:
        with open(path, "rb") as file:
            batch = _ArrayUnpickler(file, encoding="bytes").load()
        rows, labels = batch[b"data"], batch[kind.encode()]
        images = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(f"{path}: not a batch of CIFAR ({error})") from None
    if images.dtype != np.uint8 or len(labels) != len(images):
        raise UserError(f"{path}: not a batch of CIFAR ({len(labels)} labels)")
    return images, [str(label) for label in labels]


def _fetch(place: Place) -> RawFiles:
    fetch_archive(place, URL, ARCHIVE_MD5, FOLDER)
    found = find_files(place, FILES)
    assert found is not None, "the archive's MD5 was right"
    return found


def _read(raw: RawFiles, seed: int) -> Parts:
    batches = [read_batch(raw[name]) for name in TRAIN]
    train = np.concatenate([images for images, _ in batches])
    test, test_labels = read_batch(raw[TEST])
    return {
        "train": Pixels(train, [label for _, labels in batches for label in labels]),
        "test": Pixels(test, test_labels),
    }


SOURCE = Source(
    find=partial(find_files, names=FILES),
    fetch=_fetch,
    read=_read,
    counts={"train": 50_000, "test": 10_000},
    digests={
        f"{FOLDER}/data_batch_1": "c99cafc152244af753f735de768cd75f",
        f"{FOLDER}/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        f"{FOLDER}/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        f"{FOLDER}/data_batch_4": "634d18415352ddfa80567beed471001a",
        f"{FOLDER}/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        TEST: "40351d587109b95175f43aff81a1287e",
    },
)
