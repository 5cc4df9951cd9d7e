"""What happens to an image between its file and the model: range, crop, size, augmentation.

The order is fixed: stored values to [0, 1], crop of the centre, resize; a split's flip comes last,
so that a set and its flipped twin differ by the flip and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diffusion_ood.data.formats.base import Array, Refusal
from diffusion_ood.data.splits import Edit
from diffusion_ood.data.values import value_range
from diffusion_ood.data.volumes import cropped_sides
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.imports import without_deprecation_notices
from diffusion_ood.runtime.transfers import to_device

with without_deprecation_notices():
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.array import CenterSpatialCrop
    from monai.transforms.spatial.array import Resize
    from monai.transforms.utility.array import EnsureType

ROTATION = 0.1  # radians, about 6 degrees
TRANSLATION = 0.04  # of a side
ZOOM = 0.05
AUGMENTED_SHARE = 0.5
PLANES = {2: [(0, 1)], 3: [(1, 2), (2, 0), (0, 1)]}  # of the rotations, by the number of sides


def to_unit(array: Array, options: ImageOptions) -> Array:
    """Stored values → float32 in [0, 1]: (v - low) / (high - low), clipped."""
    low, high = value_range(array.dtype, options)
    unit = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(unit, 0, 1, out=unit)


def preparation(options: ImageOptions, *, keep_bytes: bool = False) -> Compose:
    """A stored (C, *S) array → a tensor (C, *S'), float32 in [0, 1], cropped and resized.

    With `keep_bytes` the stored uint8 values are kept, which `to_unit` turns into the same floats
    later; resizing needs floats and excludes it.
    """
    assert not (keep_bytes and options.image_size), "resized images are not bytes"
    steps: list[Callable[..., object]] = [] if keep_bytes else [partial(to_unit, options=options)]
    if options.image_roi is not None:
        steps.append(CenterSpatialCrop(options.image_roi))
    if options.image_size is not None:
        steps.append(partial(resize, size=options.image_size))
    return Compose([*steps, EnsureType(track_meta=False)])


def prepared_size(native: Sequence[int], options: ImageOptions) -> tuple[int, ...]:
    """The sides *S' that `preparation` makes of an image with sides *S.

    Raises:
        UserError: a crop that is larger than the image, which would do nothing.
    """
    try:
        roi = cropped_sides(native, options)
    except Refusal as error:
        raise UserError(str(error)) from None
    return roi if options.image_size is None else (options.image_size,) * len(native)


def resize(image: Array | Tensor, size: int) -> Tensor:
    """(C, *S) → (C, size, …), float32 in [0, 1]: sides shrink by area and grow linearly."""
    sides = image.shape[1:]
    linear = {2: "bilinear", 3: "trilinear"}[len(sides)]
    image = torch.as_tensor(image)
    image = Resize([min(side, size) for side in sides], mode="area")(image)
    image = Resize([size] * len(sides), mode=linear, align_corners=False)(image)
    return torch.as_tensor(image).clamp(0, 1)  # averages overshoot by a rounding


def flip(images: Tensor, direction: Edit | None, options: ImageOptions) -> Tensor:
    """(B, C, *S) turned upside down (`vflip`) or mirrored left to right (`hflip`).

    Of images these are axes -2 and -1; of volumes in RAS the last and the first of *S. Volumes that
    lie as stored have axes of no known meaning, and flip as images do. Other edits need more than
    the image itself; here they change nothing.
    """
    if direction not in ("vflip", "hflip"):
        return images
    turned = options.spatial_dimension == 3 and options.orientation == "RAS"
    axes = {"vflip": -1, "hflip": -3} if turned else {"vflip": -2, "hflip": -1}
    return images.flip(axes[direction])


def patch(image: Tensor, other: Tensor, place: Sequence[float]) -> Tensor:
    """(C, *S) with a box of half of each side from the same place of another image (C, *S).

    A foreign patch makes of an image one that does not belong, and that looks like the others in
    all but its whole (Tan et al. 2020, foreign patch interpolation).

    Args:
        image, other: of equal shape.
        place: where the box lies along each side, from 0, at its beginning, to 1, at its end.
    """
    sides = image.shape[1:]
    lows = [round(part * (side - side // 2)) for part, side in zip(place, sides, strict=True)]
    slices = [slice(low, low + side // 2) for low, side in zip(lows, sides, strict=True)]
    box = (slice(None), *slices)
    edited = image.clone()
    edited[box] = other[box]
    return edited


def mirrored(images: Tensor, which: Tensor, options: ImageOptions) -> Tensor:
    """(B, C, *S) with those images mirrored left to right, as by `flip`, that the (B,) says."""
    where = to_device(which, images.device).reshape(-1, *[1] * (images.ndim - 1))
    return torch.where(where, flip(images, "hflip", options), images)


@lru_cache(maxsize=1)  # it is asked for every batch of an epoch
def augmentation(
    shape: tuple[int, ...], *, seed: int, epoch: int = 0
) -> Callable[[Tensor, Sequence[int]], Tensor]:
    """A function of a training batch (B, C, *S) that moves some of its images a little.

    Its second argument numbers the images in their split. Half of them, drawn from (seed, epoch,
    number), are rotated, shifted and zoomed, at most by the constants above, with their borders
    repeated outwards; none is flipped. The images stay on their device.

    Args:
        shape: (C, *S) of an image.
        seed: of the draw, together with `epoch`.
        epoch: number of the pass over the training images.
    """
    sides = tuple(shape[1:])
    rng = np.random.default_rng([seed % 2**64, epoch])
    rows = np.empty((0, 1 + len(PLANES[len(sides)]) + 2 * len(sides)))

    def augment(images: Tensor, numbers: Sequence[int]) -> Tensor:
        nonlocal rows
        lacking = max(numbers, default=-1) + 1 - len(rows)
        if lacking > 0:  # a row of the draws is that of its number, however many there are
            rows = np.concatenate([rows, rng.random((lacking, rows.shape[1]))])
        share, drawn = np.split(rows[np.asarray(numbers, dtype=int)], [1], axis=1)
        chosen = np.flatnonzero(share < AUGMENTED_SHARE)
        if not len(chosen):
            return images
        which = to_device(torch.from_numpy(chosen), images.device)
        moves = torch.from_numpy(small_moves(2 * drawn[chosen] - 1, sides)).float()
        return images.index_copy(0, which, moved(images.index_select(0, which), moves))

    return augment


def small_moves(drawn: NDArray[np.float64], sides: Sequence[int]) -> NDArray[np.float64]:
    """Affine maps `(B, n, n + 1)` of the n sides' pixels, counted from an image's centre.

    Args:
        drawn: for each plane an angle, for each side a shift and a zoom, (B, …) in [−1, 1), as
            shares of the largest.
        sides: the n sides of the images.
    """
    n, planes = len(sides), PLANES[len(sides)]
    angles, shifts, zooms = np.split(drawn, [len(planes), len(planes) + n], axis=1)
    turn = np.tile(np.eye(n), (len(drawn), 1, 1))
    for (a, b), angle in zip(planes, ROTATION * angles.T, strict=True):
        one = np.tile(np.eye(n), (len(drawn), 1, 1))
        one[:, a, a] = one[:, b, b] = np.cos(angle)
        one[:, b, a] = np.sin(angle)
        one[:, a, b] = -one[:, b, a]
        turn = turn @ one
    shift = turn @ (TRANSLATION * shifts * sides)[:, :, None]
    return np.concatenate([turn * (1 + ZOOM * zooms)[:, None], shift], axis=2)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images (B, C, *S) in [0, 1] whose pixels come from where `(B, n, n + 1)` maps them to.

    Every number is made by itself, so that an image's do not depend on its batch.
    """
    sides = images.shape[2:]
    n = len(sides)
    to = to_device(moves, images.device).view(len(moves), n, n + 1, *[1] * n)
    pixels = [  # of each side along its own axis
        (torch.arange(side, device=images.device) - (side - 1) / 2).view(-1, *[1] * (n - 1 - axis))
        for axis, side in enumerate(sides)
    ]
    places = []
    for axis in reversed(range(n)):  # grid_sample has the last side first, from −1 to 1
        place = to[:, axis, n]
        for other in range(n):
            place = place + to[:, axis, other] * pixels[other]
        places.append(2 / sides[axis] * place)
    grid = torch.stack(places, -1)
    found = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return found.clamp(0, 1)
