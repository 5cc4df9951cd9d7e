"""Which values the images of a set are stored with, and what is doubtful about them.

A model that was trained on 12 bits in 16 sees images that are nearly black. The same content in 8
bits is far from them, whatever is in the pictures. No score can tell; the stored values can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from diffusion_ood.data.readers import read_image, spacing_of
from diffusion_ood.data.splits import Split
from diffusion_ood.data.values import value_range
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

QUANTILES = (0.0001, 0.01, 0.5, 0.99, 0.9999)
MAX_IMAGES, MAX_PIXELS = 64, 10_000  # that are looked at: of a set, of an image
BYTES = {"uint8"}
"""Types in which images of fewer bits are not stored: a set of them may be as dark as it likes."""
SLIVER, SLIVER_OF_WIDE = 1 / 8, 0.3
"""A set that fills less of the range that becomes 0 to 1 leaves the model little to tell apart; of
wider types, two bits that are not used are less than 0.3."""
SCALE = 3.0
"""Brightest values that differ by more than this factor are taken for other bits of storage."""

SPACING = 1.2
"""Voxels whose sizes differ by more than this factor show the same anatomy in other sizes."""


@dataclass(frozen=True)
class Intensity:
    """The stored values of a set, from a sample of it.

    Attributes:
        stored: for each type the quantiles `QUANTILES` of the values stored with it.
        low, high: the first and last of `QUANTILES` of the values as the model sees them, before
            they are clipped to 0 and 1.
        clipped: share of the images with more than half of their pixels above 1, or below 0 and
            not at the image's least value.
        spacing: medians of the millimetres from voxel to voxel along each axis; None of images,
            and of volumes that are resampled to one spacing.
    """

    stored: dict[str, list[float]]
    low: float
    high: float
    clipped: float
    spacing: list[float] | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON values, for `Intensity(**values)`."""
        return asdict(self)


def measure_intensity(split: Split, options: ImageOptions) -> Intensity:
    """The stored values of at most `MAX_IMAGES` images, evenly from a split's first to last.

    Raises:
        UserError: one of them cannot be read.
    """
    chosen = np.unique(np.linspace(0, len(split) - 1, MAX_IMAGES).round().astype(int)).tolist()
    stored: dict[str, list[np.ndarray]] = {}
    seen, clipped, spacing = [], [], []
    for index in chosen:
        try:
            image = read_image(split.image_path(index), options)
        except UserError as error:
            raise split.error(index, error) from None
        spacing += [spacing_of(split.image_path(index), options)]
        values = image.ravel()[:: max(1, image.size // MAX_PIXELS)].astype(np.float64)
        low, high = value_range(image.dtype, options)
        unit = (values - low) / (high - low)
        stored.setdefault(str(image.dtype), []).append(values)
        seen.append(unit)
        background = values == values.min()  # what pads an image may lie far below it
        clipped.append(np.mean((unit > 1) | ((unit < 0) & ~background)) > 0.5)
    ends = np.quantile(np.concatenate(seen), [QUANTILES[0], QUANTILES[-1]])
    found = {
        kind: np.quantile(np.concatenate(parts), QUANTILES).tolist()
        for kind, parts in stored.items()
    }
    known = [sizes for sizes in spacing if sizes is not None]
    usual = np.median(known, axis=0).tolist() if known else None
    return Intensity(found, float(ends[0]), float(ends[1]), float(np.mean(clipped)), usual)


def doubts(name: str, own: Intensity, *, in_distribution: bool = True) -> Iterator[str]:
    """What is doubtful about the stored values of a set, in sentences that name it.

    Out of distribution, a set may be as dark or as even as it likes.
    """
    kinds = ", ".join(own.stored)
    least = SLIVER if own.stored.keys() <= BYTES else SLIVER_OF_WIDE
    if in_distribution and own.high - own.low < least:
        yield (
            f"the images of {name} fill {100 * (own.high - own.low):.2g} % of the range of values "
            f"that becomes 0 to 1 ({kinds} from {_least(own):g} to {_most(own):g}); give "
            "intensity_range=LOW,HIGH in training if they are stored with fewer bits"
        )
    if own.clipped > 0.5:
        yield (
            f"{100 * own.clipped:.0f} % of the images of {name} have most of their pixels outside "
            f"intensity_range ({kinds} from {_least(own):g} to {_most(own):g})"
        )


def differences(name: str, own: Intensity, others: str, expected: Intensity) -> Iterator[str]:
    """What makes two sets doubtful to compare, in sentences that name both."""
    if own.stored.keys() != expected.stored.keys():
        yield (
            f"the images of {name} are stored as {', '.join(own.stored)}, those of {others} as "
            f"{', '.join(expected.stored)}: such files are told apart, whatever they show"
        )
    if own.spacing and expected.spacing and other_spacing(own.spacing, expected.spacing):
        yield (
            f"the voxels of {name} are {millimetres(own.spacing)}, those of {others} "
            f"{millimetres(expected.spacing)}: give spacing=x,y,z in training, or sizes are told "
            "apart"
        )
    bright = sorted((abs(own.high), abs(expected.high)))
    bytes_alone = {*own.stored, *expected.stored} <= BYTES
    if bright[1] > SCALE * bright[0] and not bytes_alone:
        yield (
            f"the brightest values of {name} are at {own.high:.2g}, those of {others} at "
            f"{expected.high:.2g} of what the model sees as 0 to 1: they may be stored with other "
            "bits"
        )


def other_spacing(found: Sequence[float], expected: Sequence[float]) -> bool:
    """Whether voxels differ by more than `SPACING` along an axis."""
    return bool(np.abs(np.log(np.divide(found, expected))).max() > np.log(SPACING))


def millimetres(spacing: Sequence[float]) -> str:
    """Show sizes of voxels."""
    return " x ".join(f"{size:.3g}" for size in spacing) + " mm"


def of_json(values: Mapping[str, Any] | None) -> Intensity | None:
    """What `as_json` gave; None where nothing was kept."""
    return Intensity(**values) if values else None


def _least(own: Intensity) -> float:
    return min(quantiles[0] for quantiles in own.stored.values())


def _most(own: Intensity) -> float:
    return max(quantiles[-1] for quantiles in own.stored.values())
