"""Trees of DICOM studies: which series lie where."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from diffusion_ood.data.formats.dicom_series import series_digest
from diffusion_ood.data.opening import sentences
from diffusion_ood.data.places import Place
from diffusion_ood.errors import UserError

UNKNOWN = ""
"""In place of a digest, of a file that cannot be read: it stands for itself."""


def series_or_unknown(path: Path) -> str | None:
    """The digest of a DICOM file's series, or `UNKNOWN`; None of one without an image."""
    try:
        with sentences(path):
            return series_digest(path)
    except UserError:
        return UNKNOWN


def places_of(digests: Mapping[Path, str]) -> dict[Path, Place]:
    """What names the series of each file.

    A series of one file is the file. Any other is the deepest folder that holds all of it, with its
    digest where the folder holds others too.

    Args:
        digests: of each file's series, or `UNKNOWN`.
    """
    series: dict[str, list[Path]] = defaultdict(list)
    inside: dict[Path, set[str]] = defaultdict(set)
    for path, digest in digests.items():
        series[digest].append(path)
        for folder in path.parents:
            inside[folder].add(digest)
    found = {path: Place(path) for path in digests}
    for digest, paths in series.items():
        if digest != UNKNOWN and len(paths) > 1:
            folder = Path(os.path.commonpath([path.parent for path in paths]))
            others = inside[folder] - {digest, UNKNOWN}
            found |= dict.fromkeys(paths, Place(folder, digest if others else None))
    return found
