"""What cannot work is refused before the first image is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion_ood.calibration.groups import group_names
from diffusion_ood.calibration.monitor import Monitor
from diffusion_ood.data.intensity import millimetres, of_json, other_spacing
from diffusion_ood.data.readers import spacing_of
from diffusion_ood.data.remote import Remote
from diffusion_ood.detector import Detector
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted
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


def spacing_doubts(detector: Detector, items: Sequence[Item]) -> Iterator[str]:
    """Say how many volumes have voxels of other sizes than those that the model was trained on."""
    trained = of_json(detector.content.diffusion.training.get("intensity"))
    if trained is None or trained.spacing is None:
        return
    options, others = detector.reader.options, []
    far = sum(isinstance(item.path, Remote) for item in items)
    if far and options.spatial_dimension == 3 and options.spacing is None:
        yield f"{counted(far, 'volume')} at URLs, whose voxel sizes were not compared with training"
    for item in items:
        if isinstance(item.path, Remote):  # it would be fetched again
            continue
        found = spacing_of(item.path, options)
        if found is not None and other_spacing(found, trained.spacing):
            others.append((item.name, found))
    if others:
        name, found = others[0]
        yield (
            f"{counted(len(others), 'volume')} with voxels of other sizes than in training, the "
            f"first is {name}: {millimetres(found)}, {millimetres(trained.spacing)} in training; "
            "give spacing=x,y,z in training"
        )


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
        here = None if isinstance(item.path, Remote) else item.path
        places = (here, here.parent / "_") if here else ()  # a link, too, would be replaced
        if any(os.path.realpath(place).startswith(folder + os.sep) for place in places):
            raise UserError(
                f"`maps`: found {maps}, in which {item.name} lies, expected another folder"
            )
        other = seen.setdefault(map_path(maps, item.within, detector.image_shape), item)
        if other is not item:
            raise UserError(
                f"`maps`: found {item.name} and {other.name}, whose maps would have one name; "
                "screen them apart, or as parts of one folder"
            )
