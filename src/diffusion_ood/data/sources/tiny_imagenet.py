"""TinyImageNet (Le and Yang 2015): the 10,000 validation photographs; a test set alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusion_ood.data.sources.photographs import photograph_source
from diffusion_ood.errors import UserError

ANNOTATIONS = "val_annotations.txt"


def _labels(folder: Path, paths: Sequence[Path]) -> list[str]:
    """The WordNet number of each photograph: the second column of its line."""
    table = folder / ANNOTATIONS
    if not table.is_file():
        raise UserError(f"{table}: no such file, expected a photograph and its class a line")
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    classes = {row[0]: row[1] for row in rows if len(row) > 1}
    unnamed = next((path.name for path in paths if path.name not in classes), None)
    if unnamed is not None:
        raise UserError(f"{table}: found no line for {unnamed}")
    return [classes[path.name] for path in paths]


SOURCE = photograph_source(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    folder="tiny-imagenet-200/val",
    pattern="images/*.JPEG",
    count=10_000,
    labels=_labels,
)
