"""DICOM series: files of one SeriesInstanceUID, or the frames of one file, as a volume.

Slices are sorted by their position along the normal of their plane, never by names or numbers of
instances. What is uneven or missing is said and not filled in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from diffusion_ood.data.formats import dicom
from diffusion_ood.data.formats.base import Array, Refusal, check_sides
from diffusion_ood.data.formats.dicom_space import Frame, check_alike, frames_of, step_of
from diffusion_ood.data.formats.dicom_tags import quiet, read_tags, whole
from diffusion_ood.data.formats.nifti import MAX_VOXELS
from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.opening import Source
from diffusion_ood.data.places import Place
from diffusion_ood.runtime.words import counted

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
IMAGES = "Image Storage"  # in the names of kinds; reports, states, masks and doses lack it
PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # the tag, in either order of bytes
LAST = "PixelRepresentation"  # of what an image has to say: a file without it was cut off
SERIES_TAGS = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", LAST)


def series_of(folder: Path) -> dict[str, list[Path]]:
    """The DICOM files with pixels in a folder and those below it, by a digest of their series.

    Others, such as DICOMDIR and reports, are left out; hidden files and folders, too.

    Raises:
        Refusal: a file that is DICOM by its name or first bytes and cannot be read: a slice of any
            series could be missing by it.
    """
    found: dict[str, list[Path]] = {}
    for path in dicom_files(folder):
        with _naming(path):
            digest = series_digest(path)
        if digest is not None:
            found.setdefault(digest, []).append(path)
    return found


def dicom_files(folder: Path) -> Iterator[Path]:
    """The files below a folder that are DICOM by their names or first bytes."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() == dicom.SUFFIX or dicom.is_dicom(path):
                yield path


def series_digest(source: Source) -> str | None:
    """12 hexadecimal digits that the files of one series share; None of a file that is no image.

    It is the same on every machine, since splits name series by it.

    Raises:
        Refusal: a file that is not DICOM, or ends before it says what it is.
    """
    import pydicom

    with source.open("rb") as file, quiet():
        dataset = read_tags(file, SERIES_TAGS)
        stored_as = dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.SOPClassUID
        kind = pydicom.uid.UID(stored_as)
        if IMAGES not in kind.name and kind.name != kind:  # which is so of a private kind
            return None
        whole(dataset, LAST)
        if file.read(4) not in PIXEL_DATA:
            return None
        if not (number := dataset.get("SeriesInstanceUID")):
            raise Refusal("found no SeriesInstanceUID, expected that of its series")
        text = f"{dataset.get('StudyInstanceUID')}\0{number}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()


def series_files(place: Place) -> list[Path]:
    """The files of a folder's series, the one that a place names or the only one.

    Raises:
        Refusal: no such series, or several of them.
    """
    found = series_of(place.path)
    forms = ", ".join(str(Place(place.path, digest)) for digest in sorted(found))
    if not found:
        raise Refusal("found a folder without a DICOM series, expected an image")
    if place.series is None and len(found) > 1:
        raise Refusal(f"found {len(found)} series in a folder, expected one of {forms}")
    if place.series is not None and place.series not in found:
        raise Refusal(f"found no series {place.series}, expected one of {forms}")
    return found[place.series] if place.series is not None else next(iter(found.values()))


def open_series(files: Sequence[Source]) -> Volume:
    """The volume of a series' files, or of one file with several frames.

    Raises:
        Refusal: slices that differ in size, orientation or spacing, that are missing, uneven or
            twice at one position, without a position, of colour, or that cannot be read.
    """
    frames: list[Frame] = []
    for source in files:
        with _naming(source if len(files) > 1 else None):
            frames += frames_of(source)
    if len(frames) < 2:
        raise Refusal(f"found {counted(len(frames), 'slice')}, expected a volume of at least two")
    check_alike(frames)
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    frames.sort(key=lambda frame: float(frame.position @ normal))
    first = frames[0]
    shape = first.pixels.columns, first.pixels.rows, len(frames)
    check_sides(shape, MAX_VOXELS)
    step = step_of(np.array([frame.position for frame in frames]), normal)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, first.position
    plain = all(frame.scaling.is_plain(frame.pixels) for frame in frames)
    kinds = {f"u{frame.pixels.allocated // 8}" for frame in frames} if plain else set()
    wide = any(frame.pixels.allocated == 32 for frame in frames)
    kind = kinds.pop() if len(kinds) == 1 else "f8" if wide else "f4"

    def load(box: tuple[slice, ...]) -> Array:
        columns, rows, slices = box
        chosen = frames[slices]
        sides = [len(range(side)[part]) for side, part in zip(shape, box, strict=True)]
        values = np.empty(sides, kind)
        for number, pixels in enumerate(_decoded(chosen)):
            values[:, :, number] = pixels[rows, columns].T
        return values

    unranged = (frame.scaling.unranged(frame.pixels) for frame in frames)
    return Volume(shape, LPS_TO_RAS @ affine, load, next(filter(None, unranged), ""))


def _decoded(frames: Sequence[Frame]) -> Iterator[Array]:
    """The values of slices, one file after the other."""
    several = any(frame.source is not frames[0].source for frame in frames)
    for source, group in groupby(frames, key=lambda frame: frame.source):
        own = list(group)
        numbers, scalings = [frame.number for frame in own], [frame.scaling for frame in own]
        with _naming(source if several else None), source.open("rb") as file:
            yield from dicom.decoded(file, own[0].pixels, numbers, scalings)


@contextmanager
def _naming(source: Source | None) -> Iterator[None]:
    """Begin a refusal with the name of the file, where there are several."""
    try:
        yield
    except Refusal as error:
        raise Refusal(f"{source.name}: {error}" if source is not None else str(error)) from None
