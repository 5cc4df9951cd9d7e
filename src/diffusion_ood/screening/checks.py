"""What cannot work is refused before the first image is measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from diffusion_ood.calibration.groups import group_names
from diffusion_ood.calibration.monitor import Monitor
from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.maps import map_path


def check_groups(detector: Detector, items: Sequence[Item], group_by: str) -> None:
    """Refuse an expression that finds nothing in a name, or a detector without names.

    Raises:
        UserError: of an image, or of a validation image of the detector.
    """
    names = detector.content.names
    if not names:
        raise UserError(
            "`group_by`: found a detector without the names of its validation images, expected one "
            "that was fitted with `keep_names`"
        )
    try:
        group_names(names, group_by)
    except UserError as error:
        raise UserError(f"a validation image of the detector: {error}") from None
    group_names([item.within for item in items], group_by)


def check_monitor(detector: Detector, path: Path) -> None:
    """Refuse a stream that is damaged or of another detector; UserError."""
    if path.exists():
        Monitor.load(path, detector.digest)


def check_maps(detector: Detector, items: Sequence[Item], maps: Path) -> None:
    """Refuse maps that would take each other's names, or lie among the images that are screened.

    Raises:
        UserError: such maps, or a detector that has none.
    """
    if detector.map_limit is None:
        raise UserError("`maps`: found a detector without denoising or joined among its methods")
    folder = os.path.realpath(maps)
    seen: dict[Path, Item] = {}
    for item in items:
        if os.path.realpath(item.path).startswith(folder + os.sep):
            raise UserError(
                f"`maps`: found {maps}, in which {item.name} lies, expected another folder"
            )
        other = seen.setdefault(map_path(maps, item.within), item)
        if other is not item:
            raise UserError(
                f"`maps`: found {item.name} and {other.name}, whose maps would have one name; "
                "screen them apart, or as parts of one folder"
            )
