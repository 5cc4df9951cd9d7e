"""MedNIST (B. Erickson, Mayo Clinic; CC BY-SA 4.0): 58,954 grey JPEG of 64 x 64 pixels.

There are six kinds, of which each is a set with parts of its own: one is what a model learns,
the others are the unusual ones. The URL, the MD5 and the shares of the parts are those of MONAI's
`MedNISTDataset`.
"""

from __future__ import annotations

import numpy as np

from diffusion_ood.data.sources.base import (
    Download,
    ImageFiles,
    Part,
    RawFiles,
    Source,
    SplitImages,
)

FOLDER = "MedNIST"
KINDS = {
    "AbdomenCT": 10_000,
    "BreastMRI": 8_954,
    "CXR": 10_000,
    "ChestCT": 10_000,
    "Hand": 10_000,
    "HeadCT": 10_000,
}
TENTHS = 10  # one of them validates, one tests


def _counts() -> dict[Part, int]:
    counts: dict[Part, int] = {}
    for kind, count in KINDS.items():
        tenth = count // TENTHS
        counts |= {f"{kind}_train": count - 2 * tenth}
        counts |= {f"{kind}_val": tenth, f"{kind}_test": tenth}
    return counts


def _read(raw: RawFiles, seed: int) -> SplitImages:
    parts = {}
    for kind in KINDS:
        paths = sorted((raw[FOLDER] / kind).glob("[!.]*.jpeg"))
        mixed = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
        tenth = len(paths) // TENTHS
        for part, own in (
            ("train", mixed[2 * tenth :]),
            ("val", mixed[tenth : 2 * tenth]),
            ("test", mixed[:tenth]),
        ):
            parts[f"{kind}_{part}"] = ImageFiles(own)
    return parts


SOURCE = Source(
    read=_read,
    counts=_counts(),
    files={FOLDER: None},
    downloads=[
        Download(
            f"{FOLDER}.tar.gz",
            "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
            "MedNIST.tar.gz",
            "0bc7306e7427e00ad1c5526a6677552d",
            FOLDER,
        )
    ],
    is_grayscale=True,
)
