"""Volumes as a model sees them: one channel, turned to RAS, resampled, cropped; and the way back.

All of it follows from the header, so that nothing is read but the box that the model sees.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diffusion_ood.data.formats import nifti
from diffusion_ood.data.formats.base import Array, Refusal, check_sides
from diffusion_ood.data.formats.dicom import is_dicom
from diffusion_ood.data.formats.dicom_series import open_series, series_files
from diffusion_ood.data.formats.volume import Volume
from diffusion_ood.data.opening import Content
from diffusion_ood.data.places import PLANES, Place
from diffusion_ood.options import ImageOptions

SQUARE = 0.01
"""The cosine between two axes that still counts as a right angle: headers have few digits."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Where the voxels that a model sees lie in a volume.

    A volume is `turned` first. Then voxel i of the resampled grid lies at turned voxel `step` · i,
    and of these the `sides` from `low` on are kept.

    Attributes:
        axes: the stored axis of each turned one.
        reversed: whether a turned axis runs against the stored one.
        turned: sides of the turned volume.
        step: turned voxels from one resampled voxel to the next, along each axis.
        low, sides: the first resampled voxel that is kept, and how many.
    """

    axes: tuple[int, ...]
    reversed: tuple[bool, ...]
    turned: tuple[int, ...]
    step: tuple[float, ...]
    low: tuple[int, ...]
    sides: tuple[int, ...]

    def read(self, volume: Volume, channel: int) -> Array:
        """The voxels that are kept, (X, Y, Z)."""
        first = [int(low * step) for low, step in zip(self.low, self.step, strict=True)]
        last = np.multiply(np.add(self.low, self.sides) - 1, self.step)
        ends = np.minimum(np.ceil(last).astype(int) + 1, self.turned)
        box = [slice(0)] * 3
        for k, axis in enumerate(self.axes):
            start, end = first[k], int(ends[k])
            side = self.turned[k]
            box[axis] = slice(side - end, side - start) if self.reversed[k] else slice(start, end)
        if len(volume.shape) == 3:
            found = volume.load(tuple(box))
        else:
            found = volume.load((*box, slice(channel, channel + 1)))[..., 0]
        found = self._mirrored(found.transpose(self.axes))
        if set(self.step) == {1.0}:
            return found
        kind = found.dtype.newbyteorder("=")
        kind = kind if kind.kind == "u" else np.result_type(kind, np.float32)
        offset = np.multiply(self.low, self.step) - first
        return _resampled(found.astype(kind, copy=False), self.step, offset, self.sides)

    def restored(self, values: Array) -> Array:
        """Values (X, Y, Z) at the voxels that are kept → at all voxels as stored, 0 at the others.

        What was resampled is so again, linearly.
        """
        start = np.ceil(np.multiply(np.subtract(self.low, 0.5), self.step)).astype(int).clip(0)
        end = np.floor(np.multiply(np.add(self.low, self.sides) - 0.5, self.step)).astype(int) + 1
        end = np.minimum(end, self.turned)
        whole = np.zeros(self.turned, values.dtype)
        step = np.divide(1, self.step)
        part = _resampled(values, step, start * step - self.low, tuple(end - start))
        whole[tuple(map(slice, start, end))] = part
        return self._mirrored(whole).transpose(np.argsort(self.axes))

    def _mirrored(self, array: Array) -> Array:
        return array[tuple(slice(None, None, -1 if back else 1) for back in self.reversed)]


def open_volume(source: Place | Content) -> Volume:
    """A volume of a file, a series or a file's content; its header is read.

    Raises:
        Refusal: it is none.
    """
    file = source.path if isinstance(source, Place) else source
    if isinstance(source, Place) and os.path.isdir(source.path):
        return open_series(series_files(source))
    if is_dicom(file):
        return open_series([file])
    if file.name.lower().endswith(nifti.SUFFIXES):
        return nifti.open_nifti(file)
    raise Refusal(f"expected a volume as {', '.join(nifti.SUFFIXES)}, DICOM or NPY")


def oriented(volume: Volume, options: ImageOptions, place: Place | None = None) -> Array:
    """The values of a volume, (1, X, Y, Z), or of the slice that a place names, (1, H, W).

    A volume is cropped as `image_roi` says, a slice is whole. Slices lie as radiology shows them:
    the front or the head is up, and the patient's right, or in sagittal slices the front, is left.

    Raises:
        Refusal: an affine that does not say which way is which, a slice that is not there, or an
            option that does not suit the volume.
    """
    if volume.unranged and options.intensity_range is options.intensity_percentiles is None:
        raise Refusal(volume.unranged)
    found = grid_of(volume, options, place).read(volume, _channel(volume, options))
    if place is None or place.plane is None:
        return found[None]
    return found.take(0, PLANES.index(place.plane))[::-1, ::-1].T[None]


def oriented_sides(
    volume: Volume, options: ImageOptions, place: Place | None = None
) -> tuple[int, ...]:
    """The sides *S of what `oriented` gives, from the header."""
    _channel(volume, options)
    sides = grid_of(volume, options, place).sides
    if place is None or place.plane is None:
        return sides
    axis = PLANES.index(place.plane)
    return (*sides[:axis], *sides[axis + 1 :])[::-1]


def whole(volume: Volume, options: ImageOptions) -> Array:
    """All values of the channel, (X, Y, Z) as stored."""
    channel = _channel(volume, options)
    box = tuple(map(slice, volume.shape[:3]))
    if len(volume.shape) == 3:
        return volume.load(box)
    return volume.load((*box, slice(channel, channel + 1)))[..., 0]


def grid_of(volume: Volume, options: ImageOptions, place: Place | None = None) -> Grid:
    """What `oriented` reads of a volume, and where that lies in it."""
    plane = place.plane if place else None
    axes, back = [0, 1, 2], [False] * 3
    if plane or options.orientation == "RAS":
        axes, back = _orientation(volume.affine)
    turned = np.array(volume.shape[:3])[axes]
    step = np.ones(3)
    if options.spacing is not None:
        step = np.divide(options.spacing, voxel_sizes(volume.affine)[axes])
    if place and plane:  # slices are never mixed
        step[PLANES.index(plane)] = 1
    # Rounded twice, so that the last digits of a header do not decide on a voxel.
    steps = np.minimum(np.round(np.round((turned - 1) / step, 3)), nifti.MAX_VOXELS)
    grown = steps.astype(int) + 1
    check_sides(grown.tolist(), nifti.MAX_VOXELS)
    low, sides = np.zeros(3, int), grown.copy()
    if place and plane:
        axis = PLANES.index(plane)
        if not 0 <= place.index < turned[axis]:
            raise Refusal(f"found {turned[axis]} {plane} slices, expected more than {place.index}")
        low[axis], sides[axis] = place.index, 1
    else:
        sides = np.array(cropped_sides(grown.tolist(), options))
        low = grown // 2 - sides // 2
    return Grid(
        *map(tuple, (axes, back, turned.tolist(), step.tolist(), low.tolist(), sides.tolist()))
    )


def cropped_sides(native: Sequence[int], options: ImageOptions) -> tuple[int, ...]:
    """The sides of the centre that `image_roi` keeps of an image with sides *S.

    Raises:
        Refusal: a crop that is larger than the image, which would do nothing.
    """
    wanted = options.image_roi or native
    roi = [part if part > 0 else side for side, part in zip(native, wanted, strict=True)]
    if any(part > side for side, part in zip(native, roi, strict=True)):
        found, expected = (" x ".join(map(str, sides)) for sides in (roi, native))
        raise Refusal(f"`image_roi`: found {found}, expected at most the image's {expected}")
    return tuple(roi)


def voxel_sizes(affine: Floats) -> Floats:
    """Millimetres between the middles of two voxels along each stored axis, (3,)."""
    sizes: Floats = np.linalg.norm(affine[:3, :3], axis=0).round(6)
    if not (np.isfinite(sizes).all() and sizes.min() > 0):
        raise Refusal(f"found voxels of {sizes.tolist()} mm, expected an affine with their sizes")
    return sizes


def _channel(volume: Volume, options: ImageOptions) -> int:
    """Which of the channels is meant; refused where it is not said, or not there."""
    count, channel = (*volume.shape, 1)[3], options.volume_channel
    if channel is None and count > 1:
        raise Refusal(
            f"`volume_channel`: found {count} channels, volumes over the same space, "
            f"expected which one: 0 to {count - 1}"
        )
    if (channel or 0) >= count:
        raise Refusal(f"`volume_channel`: found {channel}, expected less than {count}")
    return channel or 0


def _orientation(affine: Floats) -> tuple[list[int], list[bool]]:
    """The stored axis that lies closest to each of right, front and head, and its direction."""
    from nibabel.orientations import io_orientation

    units = affine[:3, :3] / voxel_sizes(affine)
    cosine = np.abs(units.T @ units - np.eye(3)).max()
    if cosine > SQUARE:
        angle = np.degrees(np.arccos(min(cosine, 1)))
        raise Refusal(
            f"found axes at {angle:.1f}° to each other, expected right angles; resample it, or "
            "give `orientation` stored to read it as it lies"
        )
    turned = io_orientation(affine)
    axes = turned[:, 0].argsort()
    return axes.tolist(), (turned[axes, 1] < 0).tolist()


def _resampled(
    array: Array, step: Sequence[float] | Floats, offset: Floats, sides: object
) -> Array:
    """Output voxel i is the value at `step` · i + `offset`, linear between the voxels' middles."""
    from scipy.ndimage import affine_transform

    found: Array = affine_transform(
        array, np.asarray(step), offset, sides, order=1, mode="nearest", output=array.dtype
    )
    return found
