"""Textures (Cimpoi et al. 2014, DTD): 5,640 photographs of 47 kinds of texture; for tests alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusion_ood.data.sources.photographs import photograph_source


def _labels(folder: Path, paths: Sequence[Path]) -> list[str]:
    return [path.parent.name for path in paths]


SOURCE = photograph_source(
    url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
    md5="fff73e5086ae6bdbea199a49dfb8a4c1",
    folder="dtd/images",
    pattern="*/*.jpg",
    count=5_640,
    labels=_labels,
)
