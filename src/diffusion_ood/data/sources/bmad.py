"""BMAD (Bao et al. 2024; CC BY-NC-SA 4.0): six sets of healthy and unhealthy images, PNG.

Brain, Liver and Retina_RESC have masks. The URL and the SHA-256 are those of anomalib, which
mirrors what the authors keep in a folder of Google Drive; `good_folders` has the form of a set.
"""

from __future__ import annotations

from functools import partial

from diffusion_ood.data.sources.base import Download, RawFiles, Source, SplitImages
from diffusion_ood.data.sources.good_folders import read_good_folders
from diffusion_ood.errors import UserError

NAME = "BMAD"
ARCHIVE = Download(
    "bmad.zip",
    "https://huggingface.co/datasets/code-dev05/BMAD/resolve/main/bmad.zip",
    "df655def31f3f638a91c567550de54d6e45a74b2368f666c13a6a3052c063165",
)
SETS = ("Brain", "Chest", "Histopathology", "Liver", "Retina_OCT2017", "Retina_RESC")


def _source(name: str) -> Source:
    return Source(
        read=partial(_read, name=name),
        counts=None,
        files={name: None},
        downloads=[Download(ARCHIVE.name, ARCHIVE.url, ARCHIVE.md5, name)],
        raw_name=NAME,
    )


def _read(raw: RawFiles, seed: int, name: str) -> SplitImages:
    parts = read_good_folders(raw[name])
    if not parts:
        raise UserError(
            f"{raw[name]}: found no images in one of train/good, test/good and test/Ungood, "
            "expected some in each"
        )
    return parts


SOURCES = {f"{NAME}_{name}": _source(name) for name in SETS}
