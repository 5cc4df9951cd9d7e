"""MNIST (LeCun et al. 1998) and FashionMNIST (Xiao et al. 2017): 70,000 images of 28 x 28 pixels.

Both are four files in the IDX format: a header, then unsigned bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torchvision import datasets

from diffusion_ood.data.sources.base import (
    Download,
    ImageArray,
    Part,
    RawFiles,
    Source,
    SplitImages,
)
from diffusion_ood.data.sources.raw_files import open_maybe_gzip

PREFIXES: dict[Part, str] = {"train": "train", "test": "t10k"}
SIDE = 28
IMAGES_HEADER, LABELS_HEADER = 16, 8  # bytes


def _source(dataset: type[datasets.MNIST], sha256: Sequence[str]) -> Source:
    """One of the sets; `sha256` of the four uncompressed files in torchvision's order."""
    names = [name.removesuffix(".gz") for name, _ in dataset.resources]
    url = dataset.mirrors[0]
    return Source(
        read=_read,
        counts={"train": 60_000, "test": 10_000},
        files=dict(zip(names, sha256, strict=True)),
        downloads=[Download(name, url + name, md5) for name, md5 in dataset.resources],
        is_grayscale=True,
    )


def _read(raw: RawFiles, seed: int) -> SplitImages:
    """The headers are skipped: after the check of the SHA-256 they hold nothing new."""
    parts = {}
    for part, prefix in PREFIXES.items():
        with open_maybe_gzip(raw[f"{prefix}-images-idx3-ubyte"]) as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=IMAGES_HEADER)
        with open_maybe_gzip(raw[f"{prefix}-labels-idx1-ubyte"]) as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=LABELS_HEADER)
        parts[part] = ImageArray(pixels.reshape(-1, SIDE, SIDE), list(map(str, labels)))
    return parts


MNIST = _source(
    datasets.MNIST,
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION_MNIST = _source(
    datasets.FashionMNIST,
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
