"""What happens to an image between its file and the model: range, crop, size, augmentation.

The order is fixed: stored values to [0, 1], crop of the centre, resize; a split's flip comes last,
so that a set and its flipped twin differ by the flip and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch

from diffusion_ood.data.formats.base import Array, Refusal
from diffusion_ood.data.splits import Edit
from diffusion_ood.data.values import value_range
from diffusion_ood.data.volumes import cropped_sides
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.imports import without_deprecation_notices

with without_deprecation_notices():
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.array import CenterSpatialCrop
    from monai.transforms.spatial.array import RandAffine, Resize
    from monai.transforms.utility.array import EnsureType

ROTATION = 0.1  # radians, about 6 degrees
TRANSLATION = 0.04  # of a side
ZOOM = 0.05
AUGMENTED_SHARE = 0.5


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


def resize(image: Array | torch.Tensor, size: int) -> torch.Tensor:
    """(C, *S) → (C, size, …), float32 in [0, 1]: sides shrink by area and grow linearly."""
    sides = image.shape[1:]
    linear = {2: "bilinear", 3: "trilinear"}[len(sides)]
    image = torch.as_tensor(image)
    image = Resize([min(side, size) for side in sides], mode="area")(image)
    image = Resize([size] * len(sides), mode=linear, align_corners=False)(image)
    return torch.as_tensor(image).clamp(0, 1)  # averages overshoot by a rounding


def flip(images: torch.Tensor, direction: Edit | None, options: ImageOptions) -> torch.Tensor:
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


def patch(image: torch.Tensor, other: torch.Tensor, place: Sequence[float]) -> torch.Tensor:
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


def mirrored(images: torch.Tensor, which: torch.Tensor, options: ImageOptions) -> torch.Tensor:
    """(B, C, *S) with those images mirrored left to right, as by `flip`, that the (B,) says."""
    where = which.to(images.device).reshape(-1, *[1] * (images.ndim - 1))
    return torch.where(where, flip(images, "hflip", options), images)


@lru_cache(maxsize=1)  # it is asked for every batch of an epoch
def augmentation(
    shape: tuple[int, ...], *, seed: int, epoch: int = 0
) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor]:
    """A function of a training batch (B, C, *S) that moves some of its images a little.

    Its second argument numbers the images in their split. Half of them, drawn from (seed, epoch,
    number), are rotated, shifted and zoomed, at most by the constants above, with their borders
    repeated outwards; none is flipped.

    Args:
        shape: (C, *S) of an image.
        seed: of the draw, together with `epoch`.
        epoch: number of the pass over the training images.
    """
    sides = tuple(shape[1:])
    affine = RandAffine(
        prob=AUGMENTED_SHARE,
        rotate_range=[ROTATION] * (1 if len(sides) == 2 else 3),
        translate_range=[TRANSLATION * side for side in sides],
        scale_range=[ZOOM] * len(sides),
        spatial_size=sides,
        padding_mode="border",
        cache_grid=True,
    )

    def move(image: torch.Tensor, number: int) -> torch.Tensor:
        (state,) = np.random.SeedSequence([seed % 2**64, epoch, number]).generate_state(1)
        affine.set_random_state(seed=int(state))
        return torch.as_tensor(affine(image)).clamp(0, 1)

    def augment(images: torch.Tensor, numbers: Sequence[int]) -> torch.Tensor:
        moved = [move(image, number) for image, number in zip(images, numbers, strict=True)]
        return EnsureType(track_meta=False)(torch.stack(moved)) if moved else images

    return augment
