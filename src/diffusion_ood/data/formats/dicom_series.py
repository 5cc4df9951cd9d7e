"""DICOM series: files of one SeriesInstanceUID, or the frames of one file, as a volume.

Slices are sorted by their position along the normal of their plane, never by names or numbers of
instances. What is uneven or missing is said and not filled in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from diffusion_ood.data.formats import dicom
from diffusion_ood.data.formats.base import Array, Refusal, check_sides
from diffusion_ood.data.formats.nifti import MAX_VOXELS
from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.opening import Source
from diffusion_ood.data.places import Place
from diffusion_ood.runtime.words import counted

if TYPE_CHECKING:
    from pydicom import Dataset

Vector = npt.NDArray[np.float64]

STEP = 0.01  # of a step between slices, by which another may differ
ANGLE = 1e-3  # by which cosines may be off
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
PLANE, MEASURES = "PlaneOrientationSequence", "PixelMeasuresSequence"
SERIES_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "Rows")
SPACE_TAGS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"),
    *("SpacingBetweenSlices", "DetectorInformationSequence", "FrameTime", "FrameTimeVector"),
)


@dataclass(frozen=True)
class Frame:
    """A slice: where it is stored, and where in the patient it is, in mm (LPS).

    Attributes:
        source, number: its file, and which of its frames it is.
        pixels, scaling: how it is stored.
        position: of the centre of the first pixel.
        orientation: directions of growing columns, and of growing rows.
        spacing: between rows, and between columns.
        space: the identifier of the coordinates, to be compared alone.
    """

    source: Source
    number: int
    pixels: dicom.Pixels
    scaling: dicom.Scaling
    position: Vector
    orientation: Vector
    spacing: Vector
    space: str


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
    """12 hexadecimal digits that the files of one series share; None of a file without pixels.

    It is the same on every machine, since splits name series by it.
    """
    with source.open("rb") as file, dicom.quiet():
        dataset = dicom.read_tags(file, SERIES_TAGS)
        if "Rows" not in dataset:
            return None
        if not dataset.get("SeriesInstanceUID"):
            raise Refusal("found no SeriesInstanceUID, expected that of its series")
        text = f"{dataset.get('StudyInstanceUID')}\0{dataset.SeriesInstanceUID}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()


def place_of(folder: Path, digest: str, count: int) -> Place:
    """What names a series: its folder, where it is the only one there."""
    return Place(folder, None if count == 1 else digest)


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
    _check_alike(frames)
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    frames.sort(key=lambda frame: float(frame.position @ normal))
    first = frames[0]
    shape = first.pixels.columns, first.pixels.rows, len(frames)
    check_sides(shape, MAX_VOXELS)
    step = _step(np.array([frame.position for frame in frames]), normal)
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


def open_dicom(place: Place) -> Volume:
    """The volume of a file of several frames, or of a folder's series; see `open_series`."""
    is_folder = place.path.is_dir()
    return open_series(series_files(place) if is_folder else [place.path])


def frames_of(source: Source) -> list[Frame]:
    """The slices that a file holds."""
    with source.open("rb") as file, dicom.quiet():
        dataset = dicom.read_tags(file, (*dicom.PIXEL_TAGS, *SPACE_TAGS))
        pixels = dicom.declared(dataset, file)
        if pixels.channels == 3 or pixels.allocated == 1:
            raise Refusal("found colour or single bits, expected grey values of a volume")
        check_sides((pixels.columns, pixels.rows, pixels.frames), MAX_VOXELS)
        positions = _positions(dataset, pixels.frames)
        return [_frame(source, dataset, pixels, k, position) for k, position in positions]


def _frame(
    source: Source, dataset: Dataset, pixels: dicom.Pixels, number: int, position: Vector
) -> Frame:
    """A slice at its position."""
    spacing = _vector(dicom.functional(dataset, number, MEASURES), "PixelSpacing", 2)
    if (spacing <= 0).any():
        raise Refusal(f"found PixelSpacing {spacing.tolist()}, expected more than 0 mm")
    space, scaling = str(dataset.get("FrameOfReferenceUID", "")), dicom.scaling_of(dataset, number)
    directions = _orientation(dataset, number)
    return Frame(source, number, pixels, scaling, position, directions, spacing, space)


def _positions(dataset: Dataset, count: int) -> Iterable[tuple[int, Vector]]:
    """The position of every frame: its own, or at even steps from the first."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence")
    if frames and len(frames) != count:
        raise Refusal(f"found the positions of {len(frames)} frames of {count}, expected one each")
    tag = "ImagePositionPatient"
    if count == 1 or frames:
        items = (dicom.functional(dataset, k, "PlanePositionSequence") for k in range(count))
        return [(k, _vector(item, tag, 3)) for k, item in enumerate(items)]
    step = dicom.floats(dataset, "SpacingBetweenSlices", 1)
    if step is None or "FrameTime" in dataset or "FrameTimeVector" in dataset:
        raise Refusal(f"found {count} frames without positions, expected slices of a volume")
    directions = _orientation(dataset, 0)
    first = _vector(_detector(dataset), tag, 3)
    way = step[0] * np.cross(directions[:3], directions[3:])
    return ((k, first + k * way) for k in range(count))


def _orientation(dataset: Dataset, number: int) -> Vector:
    """The directions of growing columns and of growing rows, (6,)."""
    tag = "ImageOrientationPatient"
    item = dicom.functional(dataset, number, PLANE)
    found = _vector(item if tag in item else _detector(dataset), tag, 6).reshape(2, 3)
    if np.abs(found @ found.T - np.eye(2)).max() > ANGLE:
        raise Refusal(f"found {tag} {found.ravel().tolist()}, expected two perpendicular directions")
    return found.ravel()


def _detector(dataset: Dataset) -> Dataset:
    """Where nuclear medicine keeps the place of its frames; or the file itself."""
    items = dataset.get("DetectorInformationSequence")
    return items[0] if items else dataset


def _vector(item: Dataset, tag: str, count: int) -> Vector:
    """So many numbers; Refusal where they are missing."""
    found = dicom.floats(item, tag, count)
    if found is None:
        raise Refusal(f"found no {tag}, expected that of a slice")
    return np.array(found)


def _check_alike(frames: Sequence[Frame]) -> None:
    """Refuse slices that are of no common grid."""
    first = frames[0]
    for frame in frames:
        sides = [f"{f.pixels.columns} x {f.pixels.rows}" for f in (first, frame)]
        if sides[0] != sides[1]:
            raise Refusal(f"found slices of {sides[0]} and {sides[1]} pixels, expected equal sides")
        if np.abs(frame.orientation - first.orientation).max() > ANGLE:
            raise Refusal("found slices of different orientation, expected parallel ones")
        if not np.allclose(frame.spacing, first.spacing, rtol=ANGLE, atol=0):
            found = [f.spacing.tolist() for f in (first, frame)]
            raise Refusal(f"found PixelSpacing {found[0]} and {found[1]}, expected one")
        if frame.space != first.space:
            raise Refusal("found slices of several frames of reference, expected one")


def _step(positions: Vector, normal: Vector) -> Vector:
    """From a slice to the next, (3,); Refusal where they differ: the finding is named.

    Args:
        positions: (n, 3), sorted along the normal.
        normal: of the slices.
    """
    along = positions @ normal
    gaps = np.diff(along)
    if (gaps <= STEP * gaps.max()).any():
        at = int(np.argmin(gaps))
        raise Refusal(
            f"found several slices at {along[at]:g} mm along the normal, expected one at each "
            "position; the series may hold several volumes, or a file twice"
        )
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    times = np.rint(gaps / usual)
    if (np.abs(gaps - times * usual) <= STEP * usual).all() and times.max() > 1:
        at = int(np.argmax(times > 1))
        missing = counted(int(times.sum()) - len(gaps), "missing slice")
        raise Refusal(
            f"found {missing}, the first at {along[at] + usual:g} mm along the normal, expected "
            f"one every {usual:g} mm"
        )
    if (np.abs(gaps - usual) > STEP * usual).any():
        at = int(np.argmax(np.abs(gaps - usual)))
        raise Refusal(
            f"found uneven slices: {gaps[at]:g} mm from {along[at]:g} mm along the normal to the "
            f"next, expected {usual:g} mm as elsewhere"
        )
    step: Vector = (positions[-1] - positions[0]) / len(gaps)
    off = np.abs(positions - positions[0] - np.arange(len(positions))[:, None] * step).max(axis=1)
    if off.max() > 10 * STEP * usual:
        at = int(np.argmax(off))
        raise Refusal(
            f"found uneven slices: the one at {along[at]:g} mm along the normal lies {off[at]:g} "
            "mm beside the line through the others"
        )
    return step


def _decoded(frames: Sequence[Frame]) -> Iterator[Array]:
    """The values of slices, one file after the other."""
    for source, group in groupby(frames, key=lambda frame: frame.source):
        own = list(group)
        with _naming(source if len({id(f.source) for f in frames}) > 1 else None):
            with source.open("rb") as file:
                numbers, scalings = [f.number for f in own], [f.scaling for f in own]
                yield from dicom.decoded(file, own[0].pixels, numbers, scalings)


@contextmanager
def _naming(source: Source | None) -> Iterator[None]:
    """Begin a refusal with the name of the file, where there are several."""
    try:
        yield
    except Refusal as error:
        raise Refusal(f"{source.name}: {error}" if source is not None else str(error)) from None
