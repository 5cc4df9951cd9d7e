"""Examples of a set's images for the report, each beside its reconstructions."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.examples import select_examples
from diffusion_ood.report.pictures import load_pictures, pictures_path, png

PER_KIND = 4  # where there are no pictures to say it
MAX_BYTES = 2_000_000  # of all pictures together, before they are encoded as text
SIDES = (128, 96, 64, 48, 32, 16)


@dataclass(frozen=True)
class Gallery:
    """The images of one set that are shown.

    Attributes:
        rows: an image each, as `select_examples` has it, with `pictures`: the addresses of its
            picture and those of its reconstructions, empty without any.
        starts: the noise levels of the reconstructions.
    """

    rows: list[dict[str, Any]]
    starts: tuple[int, ...]


def galleries(results: Assessment, names: Sequence[str]) -> dict[str, Gallery]:
    """The galleries of some sets; the pictures of all together are bounded in size."""
    found: dict[str, Gallery] = {}
    source = results.shown or results
    for name in names:
        pictures = load_pictures(pictures_path(source.tables, name), source.fingerprint(name))
        per_kind = pictures.per_kind if pictures else PER_KIND
        shown = select_examples(results.decisions[name], per_kind, is_in=name == "in")
        found[name] = Gallery(shown.to_dict("records"), pictures.starts if pictures else ())
        for row in found[name].rows:
            cells = pictures.row(row["filename"]) if pictures else None
            row["pictures"] = [] if cells is None else list(cells)
    rows = [row for gallery in found.values() for row in gallery.rows]
    for side in SIDES:
        files = [[png(cell, side) for cell in row["pictures"]] for row in rows]
        if sum(len(file) for of_row in files for file in of_row) <= MAX_BYTES:
            break
    for row, of_row in zip(rows, files, strict=True):
        contents = (base64.b64encode(file).decode() for file in of_row)
        row["pictures"] = [f"data:image/png;base64,{content}" for content in contents]
    return found
