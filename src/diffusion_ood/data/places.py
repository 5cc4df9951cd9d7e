"""Where an image is: a file, or a part of a file or of a folder of files.

As text: `scan.nii.gz`, `study::series=4f1d2a9c07be` of a folder that holds several series, and
`scan.nii.gz::axial=12` or `study::series=4f1d2a9c07be::axial=12` of a slice.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

PLANES = ("sagittal", "coronal", "axial")
"""Slices across the patient's left-right, back-front and foot-head axis, in this order."""

_SERIES = re.compile(r"series=(\w+)")
# A slice has one text, that of `str`.
_SLICE = re.compile(rf"({'|'.join(PLANES)})=(0|[1-9][0-9]{{0,8}})")


@dataclass(frozen=True)
class Place:
    """A file or folder, and what of it is meant.

    Attributes:
        path: of the file or folder.
        series: which DICOM series of a folder, by the digest of its identifier; None for the one.
        plane: one of `PLANES`, of a slice; None for the whole.
        index: number of the slice along its axis, from the patient's left, back or foot.
    """

    path: Path
    series: str | None = None
    plane: str | None = None
    index: int = 0

    @classmethod
    def of(cls, path: str | Path) -> Place:
        """What a path means; a file of that very name is itself."""
        text = str(path)
        if "::" not in text or os.path.lexists(text):
            return cls(Path(text))
        rest, *parts = text.split("::")
        series = plane = None
        index = 0
        if parts and (found := _SLICE.fullmatch(parts[-1])):
            plane, index = found[1], int(found[2])
            parts.pop()
        if parts and (found := _SERIES.fullmatch(parts[-1])):
            series = found[1]
            parts.pop()
        return cls(Path("::".join([rest, *parts])), series, plane, index)

    @property
    def whole(self) -> Place:
        """The volume of a slice; of what is no slice, itself."""
        return replace(self, plane=None, index=0)

    def __str__(self) -> str:
        series = "" if self.series is None else f"::series={self.series}"
        return f"{self.path}{series}" + (f"::{self.plane}={self.index}" if self.plane else "")
