"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 colour pictures each, 32 x 32 pixels."""

from __future__ import annotations

from functools import partial

from torchvision import datasets

from diffusion_ood.data.sources.base import Download, ImageArray, RawFiles, Source, SplitImages
from diffusion_ood.data.sources.raw_files import verify


def _source(dataset: type[datasets.CIFAR10]) -> Source:
    folder = dataset.base_folder
    return Source(
        read=partial(_read, dataset=dataset),
        counts={"train": 50_000, "test": 10_000},
        files={folder: None},
        downloads=[Download(dataset.filename, dataset.url, dataset.tgz_md5, folder)],
    )


def _read(raw: RawFiles, seed: int, dataset: type[datasets.CIFAR10]) -> SplitImages:
    """The files are pickles, which torchvision opens: their MD5 shows that they are harmless."""
    folder = raw[dataset.base_folder]
    meta = dataset.meta["filename"], dataset.meta["md5"]
    for name, md5 in [*dataset.train_list, *dataset.test_list, meta]:
        verify(dataset.__name__, folder / name, md5)
    train, test = (dataset(folder.parent, train=is_train) for is_train in (True, False))
    return {
        "train": ImageArray(train.data, list(map(str, train.targets))),
        "test": ImageArray(test.data, list(map(str, test.targets))),
    }


CIFAR10 = _source(datasets.CIFAR10)
CIFAR100 = _source(datasets.CIFAR100)
