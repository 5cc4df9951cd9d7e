"""CIFAR-100 (Krizhevsky 2009): 60,000 colour pictures of a hundred classes, 32 x 32 pixels."""

from __future__ import annotations

from functools import partial

from diffusion_ood.data.sources.archives import fetch_archive
from diffusion_ood.data.sources.base import Parts, Pixels, Place, RawFiles, Source, find_files
from diffusion_ood.data.sources.cifar10 import read_batch

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
FOLDER = "cifar-100-python"
TRAIN, TEST = FILES = (f"{FOLDER}/train", f"{FOLDER}/test")


def _fetch(place: Place) -> RawFiles:
    fetch_archive(place, URL, ARCHIVE_MD5, FOLDER)
    found = find_files(place, FILES)
    assert found is not None, "the archive's MD5 was right"
    return found


def _read(raw: RawFiles, seed: int) -> Parts:
    return {
        "train": Pixels(*read_batch(raw[TRAIN], "fine_labels")),
        "test": Pixels(*read_batch(raw[TEST], "fine_labels")),
    }


SOURCE = Source(
    find=partial(find_files, names=FILES),
    fetch=_fetch,
    read=_read,
    counts={"train": 50_000, "test": 10_000},
    digests={
        TRAIN: "16019d7e3df5f24257cddd939b257f8d",
        TEST: "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
)
