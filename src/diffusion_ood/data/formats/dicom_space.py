"""Where DICOM's slices lie in the patient, and whether they are those of one volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from diffusion_ood.data.formats import dicom
from diffusion_ood.data.formats.base import Refusal, check_sides
from diffusion_ood.data.formats.dicom_tags import floats, functional, quiet, read_tags
from diffusion_ood.data.formats.nifti import MAX_VOXELS
from diffusion_ood.data.opening import Source
from diffusion_ood.runtime.words import counted

if TYPE_CHECKING:
    from pydicom import Dataset

Vector = npt.NDArray[np.float64]

STEP = 0.01  # of a step between slices, by which another may differ
ANGLE = 1e-3  # by which cosines may be off
PLANE, MEASURES = "PlaneOrientationSequence", "PixelMeasuresSequence"
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


def frames_of(source: Source) -> list[Frame]:
    """The slices that a file holds."""
    with source.open("rb") as file, quiet():
        dataset = read_tags(file, (*dicom.PIXEL_TAGS, *SPACE_TAGS))
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
    spacing = _vector(functional(dataset, number, MEASURES), "PixelSpacing", 2)
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
        items = (functional(dataset, k, "PlanePositionSequence") for k in range(count))
        return [(k, _vector(item, tag, 3)) for k, item in enumerate(items)]
    step = floats(dataset, "SpacingBetweenSlices", 1)
    if step is None or "FrameTime" in dataset or "FrameTimeVector" in dataset:
        raise Refusal(f"found {count} frames without positions, expected slices of a volume")
    directions = _orientation(dataset, 0)
    first = _vector(_detector(dataset), tag, 3)
    way = step[0] * np.cross(directions[:3], directions[3:])
    return ((k, first + k * way) for k in range(count))


def _orientation(dataset: Dataset, number: int) -> Vector:
    """The directions of growing columns and of growing rows, (6,)."""
    tag = "ImageOrientationPatient"
    item = functional(dataset, number, PLANE)
    found = _vector(item if tag in item else _detector(dataset), tag, 6).reshape(2, 3)
    if np.abs(found @ found.T - np.eye(2)).max() > ANGLE:
        raise Refusal(f"found {tag} {found.ravel().tolist()}, expected perpendicular directions")
    return found.ravel()


def _detector(dataset: Dataset) -> Dataset:
    """Where nuclear medicine keeps the place of its frames; or the file itself."""
    items = dataset.get("DetectorInformationSequence")
    return items[0] if items else dataset


def _vector(item: Dataset, tag: str, count: int) -> Vector:
    """So many numbers; Refusal where they are missing."""
    found = floats(item, tag, count)
    if found is None:
        raise Refusal(f"found no {tag}, expected that of a slice")
    return np.array(found)


def check_alike(frames: Sequence[Frame]) -> None:
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


def step_of(positions: Vector, normal: Vector) -> Vector:
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
