"""Examples of a set's images for the report, each beside its reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion_ood.detection.examples import select_examples
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table_writer import read_sidecar
from diffusion_ood.report.pictures import Pictures, data_url, load_pictures, pictures_path, png

PER_KIND = 4  # where there are no pictures to say it
MAX_BYTES = 2_000_000  # of all pictures together, before they are encoded as text
SIDES = (128, 96, 64, 48, 32, 16)


@dataclass(frozen=True)
class Row:
    """An image that is shown.

    Attributes:
        filename: as its split has it.
        kind: why it is shown.
        score: the primary score.
        p_value: against the validation images.
        is_ood: what was decided.
        verdict: "false alarm", "miss" or, where the decision is right, nothing.
        pictures: addresses of its picture and those of its reconstructions; empty without any.
    """

    filename: str
    kind: str
    score: float
    p_value: float
    is_ood: bool
    verdict: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """The images of one set that are shown, and the noise levels of their reconstructions."""

    rows: Sequence[Row]
    starts: tuple[int, ...]

    @property
    def without_picture(self) -> int:
        """Rows whose picture was not kept."""
        return sum(not row.pictures for row in self.rows)


def galleries(ood_dir: Path, decisions: Mapping[str, pd.DataFrame]) -> dict[str, Gallery]:
    """The galleries of some sets; the pictures of all together are bounded in size.

    Args:
        ood_dir: the run's folder of score tables and pictures.
        decisions: on the images of each set; "in" is in distribution.
    """
    kept = {name: _kept(ood_dir, name) for name in decisions}
    rows = {
        name: select_examples(
            decided, pictures.per_kind if pictures else PER_KIND, is_in=name == "in"
        )
        for (name, decided), pictures in zip(decisions.items(), kept.values(), strict=True)
    }
    files: dict[tuple[str, str], list[bytes]] = {}
    for side in SIDES:
        files = {
            (name, filename): [png(cell, side) for cell in cells]
            for name, found in rows.items()
            for filename in found["filename"]
            if (pictures := kept[name]) and (cells := pictures.row(filename)) is not None
        }
        if sum(len(file) for row in files.values() for file in row) <= MAX_BYTES:
            break
    starts = {name: pictures.starts if pictures else () for name, pictures in kept.items()}
    return {name: Gallery(_rows(name, found, files), starts[name]) for name, found in rows.items()}


def _kept(ood_dir: Path, name: str) -> Pictures | None:
    sidecar = read_sidecar(table_path(ood_dir, name))
    if sidecar is None:
        return None
    fingerprint = {k: v for k, v in sidecar["fingerprint"].items() if k != "rows_per_image"}
    return load_pictures(pictures_path(ood_dir, name), fingerprint)


def _rows(
    name: str, found: pd.DataFrame, files: Mapping[tuple[str, str], list[bytes]]
) -> list[Row]:
    mistake = "false alarm" if name == "in" else "miss"
    return [
        Row(
            filename=row["filename"],
            kind=row["kind"],
            score=row["score"],
            p_value=row["p_value"],
            is_ood=row["is_ood"],
            verdict=mistake if row["mistake"] else "",
            pictures=tuple(map(data_url, files.get((name, row["filename"]), ()))),
        )
        for row in found.to_dict("records")
    ]
