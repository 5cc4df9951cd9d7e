"""Slices of volumes as the images of a 2-D model, each named by its place: `scan.nii.gz::axial=12`.

A slice is taken of the volume in RAS+, after resampling, and shown as radiologists see it: the
patient's right is on the left of the picture, and of sagittal slices the front; axial ones have the
front on top, the others the head. All slices of a volume count, empty ones too: air that is as it
should be is usual, and a model that has seen it says so.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from dataclasses import replace
from pathlib import Path

from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.opening import file_status, sentences
from diffusion_ood.data.places import PLANES, Place
from diffusion_ood.data.splits import Split
from diffusion_ood.data.values import percentile_ends
from diffusion_ood.data.volumes import open_volume, oriented_sides, whole
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

_READING = threading.Lock()
"""Threads that want slices of one volume let one of them read it."""


def sliced(split: Split, options: ImageOptions) -> Split:
    """A split whose volumes are replaced by their slices, as far as the options ask for slices.

    Every slice has the label and the row of its volume. Rows that are no volumes stay, and so do
    those whose header cannot be read: who reads them says why.

    Raises:
        UserError: a slice that is there twice, as itself and within its volume.
    """
    if options.slices is None:
        return split
    rows = [(i, part) for i in range(len(split)) for part in parts(split.image_path(i), options)]
    expanded = replace(
        split.only([i for i, _ in rows]), images=tuple(split.images[i] + part for i, part in rows)
    )
    seen: dict[str, int] = {}
    for i, name in enumerate(expanded.images):
        if seen.setdefault(name, i) != i:
            raise expanded.error(i, f"found {name} again after {expanded.where(seen[name])}")
    return expanded


def parts(path: Path, options: ImageOptions) -> list[str]:
    """What to append to the name of a volume for each of its slices; [""] of what is not cut."""
    place = Place.of(path)
    if options.slices is None or place.plane is not None:
        return [""]
    try:
        with sentences(path):
            sides = oriented_sides(
                header(place),
                ImageOptions(spatial_dimension=3, volume_channel=options.volume_channel),
            )
    except UserError:
        return [""]
    count = sides[PLANES.index(options.slices)]
    return [f"::{options.slices}={k}" for k in range(0, count, options.every)]


def header(place: Place) -> Volume:
    """The volume of a slice, its header read; of another slice of it, it is the same."""
    return _opened(place.whole, _stamp(place))


def in_memory(place: Place, options: ImageOptions) -> Volume:
    """The volume of a slice with the voxels of the channel that is meant in memory.

    The last one is kept, so that slices that are read one after the other cost one reading.
    """
    with _READING:
        volume = _kept(place.whole, _stamp(place), options.volume_channel or 0)
    if isinstance(volume, Exception):
        raise volume
    return volume


def ends_of_volume(place: Place, options: ImageOptions) -> tuple[float, float]:
    """The `percentile_ends` of the volume of a slice, found once."""
    return _ends(place.whole, _stamp(place), options)


def digest_of_slice(digest: str, place: Place) -> str:
    """The digest of a slice by that of its file."""
    if place.plane is None:
        return digest
    text = f"{digest}:{place.plane}={place.index}"
    return hashlib.sha256(text.encode()).hexdigest()[: len(digest)]


def _stamp(place: Place) -> tuple[int, int]:
    """By which a file that changed is known."""
    path = place.path
    if not os.path.isdir(path):
        status = file_status(path)
        return status.st_mtime_ns, status.st_size
    with os.scandir(path) as files:  # one that is written anew leaves the folder as it was
        every = [os.stat(path), *(file.stat(follow_symlinks=False) for file in files)]
    return max(s.st_mtime_ns for s in every), sum(s.st_size for s in every)


@functools.lru_cache(1024)
def _opened(place: Place, stamp: tuple[int, int]) -> Volume:
    return open_volume(place)


@functools.lru_cache(1)
def _kept(place: Place, stamp: tuple[int, int], channel: int) -> Volume | Exception:
    """A volume in memory; why it cannot be read is kept too, as each slice would meet it again."""
    try:
        volume = open_volume(place)
        box = *map(slice, volume.shape[:3]), slice(channel, channel + 1)
        values = volume.load(box[: len(volume.shape)])
    except Exception as error:  # of any decoder; `sentences` makes one of it
        return error
    return replace(volume, load=lambda part: values[part[:3]])


@functools.lru_cache(1024)
def _ends(place: Place, stamp: tuple[int, int], options: ImageOptions) -> tuple[float, float]:
    return percentile_ends(whole(in_memory(place, options), options), options)
