"""The Medical Segmentation Decathlon (Antonelli et al. 2022; CC BY-SA 4.0): ten tasks, NIfTI.

The volumes stay where they are unpacked. A fifth of `imagesTr` validates, `imagesTs` tests; the
labels are not read. The URLs and MD5 are those of MONAI's `DecathlonDataset`; each task's
`dataset.json` says how many volumes there have to be.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from diffusion_ood.data.sources.base import Download, ImageFiles, RawFiles, Source, SplitImages
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted

URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/"
VAL_FRACTION = 0.2
PARTS = (("imagesTr", "numTraining"), ("imagesTs", "numTest"))
MD5 = {
    "Task01_BrainTumour": "240a19d752f0d9e9101544901065d872",
    "Task02_Heart": "06ee59366e1e5124267b774dbd654057",
    "Task03_Liver": "a90ec6c4aa7f6a3d087205e23d4e6397",
    "Task04_Hippocampus": "9d24dba78a72977dbd1d2e110310f31b",
    "Task05_Prostate": "35138f08b1efaef89d7424d2bcc928db",
    "Task06_Lung": "8afd997733c7fc0432f71255ba4e52dc",
    "Task07_Pancreas": "4f7080cfca169fa8066d17ce6eb061e4",
    "Task08_HepaticVessel": "641d79e80ec66453921d997fbf12a29c",
    "Task09_Spleen": "410d4a301da4e5b2f6f86ec3ddba524e",
    "Task10_Colon": "bad7a188931dc2f6acf72b08eb6202d0",
}
"""Of each task's archive."""

SEQUENCES = {"Task01_BrainTumour", "Task05_Prostate"}  # several in a file of four axes


def _source(task: str, md5: str) -> Source:
    channel = {"volume_channel": 0} if task in SEQUENCES else {}
    return Source(
        read=partial(_read, task=task),
        counts=None,
        files={task: None},
        downloads=[Download(f"{task}.tar", f"{URL}{task}.tar", md5, task)],
        is_grayscale=True,
        options={"spatial_dimension": 3, **channel},
    )


def _read(raw: RawFiles, seed: int, task: str) -> SplitImages:
    known, test = (_volumes(raw[task], *part) for part in PARTS)
    mixed = [known[i] for i in np.random.default_rng(seed).permutation(len(known))]
    n_val = round(VAL_FRACTION * len(known))
    return {
        "train": ImageFiles(mixed[n_val:]),
        "val": ImageFiles(mixed[:n_val]),
        "test": ImageFiles(test),
    }


def _volumes(folder: Path, part: str, published: str) -> list[Path]:
    found = sorted((folder / part).glob("[!.]*.nii.gz"))  # macOS has put a `._` file beside each
    record = folder / "dataset.json"
    expected = json.loads(record.read_bytes()).get(published) if record.exists() else None
    if expected is not None and len(found) != expected:
        raise UserError(
            f"{folder / part}: found {counted(len(found), 'volume')}, expected {expected} as "
            f"{record.name} says"
        )
    return found


SOURCES = {task: _source(task, md5) for task, md5 in MD5.items()}
