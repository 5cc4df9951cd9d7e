"""Codecs: images in [0, 1] to what the diffusion model sees, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.transfers import to_device

if TYPE_CHECKING:
    from typing_extensions import Self

SLAB_VALUES, MOST_ROWS = 2**15, 16
"""Values of the images that an autoencoder takes at a time, but one image at least; and images."""

UNIT_LIMITS = -math.sqrt(3), math.sqrt(3)
"""A range over which even values have the variance 1 that normalised latents have."""


class Codec(Protocol):
    """Images to the diffusion model's x and back, on their own device and without clamping."""

    @property
    def limits(self) -> tuple[float, float]:
        """The range of x; or one over which even values are spread as x: levels go by its width."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value of x, to which predictions are clipped."""

    def x_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """`(c, *s)` of the x of images `(C, *S)`."""

    def encode(self, images: Tensor) -> Tensor:
        """Images `(B, C, *S)` in [0, 1] to x `(B, c, *s)`."""

    def decode(self, x: Tensor) -> Tensor:
        """X `(B, c, *s)` to images `(B, C, *S)`, which may lie outside [0, 1]."""

    def latents(self, x: Tensor) -> Tensor:
        """X without what pads it, in units that do not depend on b."""

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """X turned round along axes of `(c, *s)`; what pads it stays where it is."""

    def content(self) -> dict[str, Any] | None:
        """What a checkpoint holds of it, as tensors and plain values; None if options say all."""


@dataclass(frozen=True)
class PixelCodec:
    """The pixels themselves in another range: [0, b], or [−b, b].

    Args:
        data_range: `01` or `pm1`.
        b_scale: b (Chen 2023).
    """

    data_range: str
    b_scale: float

    @property
    def limits(self) -> tuple[float, float]:
        """The range of x."""
        return -self.b_scale if self.data_range == "pm1" else 0.0, self.b_scale

    bounds = limits

    def x_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """That of the images."""
        return tuple(image_shape)

    def encode(self, images: Tensor) -> Tensor:
        """`b·y` or `b·(2y − 1)` of images y."""
        return self.b_scale * (2 * images - 1 if self.data_range == "pm1" else images)

    def decode(self, x: Tensor) -> Tensor:
        """`x/b` or `(x/b + 1)/2`."""
        images = x / self.b_scale
        return (images + 1) / 2 if self.data_range == "pm1" else images

    def latents(self, x: Tensor) -> Tensor:
        """The images."""
        return self.decode(x)

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """See `Codec`."""
        return x.flip([axis + 1 for axis in axes])

    def content(self) -> None:
        """None: the options say all."""


@dataclass(frozen=True, eq=False)
class LatentCodec:
    """Latents z of an autoencoder: x = b · pad((z − mean) / std), the pad of zeros.

    The decoder quantises where there are codes to quantise to. Images go through it a few at a
    time, always equally many: memory is bounded, and a result does not depend on its company.

    Args:
        autoencoder: of the images.
        mean, std: of each channel over the training set, (c,), on the CPU.
        quantised: whether z are codes, of an autoencoder that has some.
        pad: zeros around z, in the order of `torch.nn.functional.pad`.
        b_scale: b (Chen 2023).
        limits_of_z, bounds_of_z: `limits` and `bounds` where b is 1.
    """

    autoencoder: Autoencoder
    mean: Tensor
    std: Tensor
    quantised: bool = True
    pad: tuple[int, ...] = ()
    b_scale: float = 1.0
    limits_of_z: tuple[float, float] = UNIT_LIMITS
    bounds_of_z: tuple[float, float] = UNIT_LIMITS

    @classmethod
    def of_content(
        cls,
        autoencoder: Autoencoder,
        stored: Mapping[str, Any],
        *,
        quantised: bool,
        pad: tuple[int, ...],
        b_scale: float,
    ) -> Self:
        """The codec of what `content` gave; the rest is told by a model's options.

        Raises:
            ValueError: what no training stores.
            LookupError, TypeError, AttributeError: parts that are missing or of other types.
        """
        mean, std = (stored[name].float().cpu() for name in ("mean", "std"))
        channels = autoencoder.latent_shape[0]
        if not mean.shape == std.shape == (channels,):
            raise ValueError(f"found means or deviations other than of {channels} channels")
        if not (mean.isfinite() & std.isfinite() & (std > 0)).all():
            raise ValueError("found a mean that is not finite, or a deviation that is not above 0")
        limits, bounds = _pair(stored["limits"]), _pair(stored["bounds"])
        return cls(autoencoder, mean, std, quantised, pad, b_scale, limits, bounds)

    def content(self) -> dict[str, Any]:
        """See `Codec`; the model's options are kept beside it."""
        content = self.autoencoder.content()
        weights = {k: v.detach().cpu().contiguous() for k, v in content["weights"].items()}
        return {
            "autoencoder": {**content, "weights": weights},
            "mean": self.mean,
            "std": self.std,
            "limits": list(self.limits_of_z),
            "bounds": list(self.bounds_of_z),
        }

    @property
    def limits(self) -> tuple[float, float]:
        """A range over which even values are spread as x."""
        return self.b_scale * self.limits_of_z[0], self.b_scale * self.limits_of_z[1]

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value of the training set."""
        return self.b_scale * self.bounds_of_z[0], self.b_scale * self.bounds_of_z[1]

    def x_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Of the latents with their pad; the autoencoder knows for which images it is."""
        channels, *sides = self.autoencoder.latent_shape
        if len(self.pad) > 2 * len(sides):
            raise UserError(
                f"`latent_pad`: found {len(self.pad)} numbers, expected two a side of latents of "
                f"{' × '.join(map(str, sides))}"
            )
        return channels, *(
            side + before + after
            for side, (before, after) in zip(sides, self._pads(len(sides)), strict=True)
        )

    def encode(self, images: Tensor) -> Tensor:
        """See `Codec`."""
        return self.of_latents(self.raw_latents(images))

    def raw_latents(self, images: Tensor) -> Tensor:
        """What the autoencoder makes of images, `(B, c, *s)`."""

        def encode(part: Tensor) -> Tensor:
            return self.autoencoder.encode(part, quantised=self.quantised)

        return self._in_slabs(encode, images, self.autoencoder.latent_shape)

    def of_latents(self, z: Tensor) -> Tensor:
        """X of what the autoencoder made, `(B, c, *s)`."""
        mean, std = self._moments(z)
        return functional.pad((z - mean) / std, self.pad) * self.b_scale

    def decode(self, x: Tensor) -> Tensor:
        """See `Codec`."""
        mean, std = self._moments(x)
        z = self.latents(x) * std + mean
        return self._in_slabs(self.autoencoder.decode, z, self.autoencoder.image_shape)

    def latents(self, x: Tensor) -> Tensor:
        """Normalised latents without their pad."""
        return x[self._inside(x.ndim - 2)] / self.b_scale

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """See `Codec`."""
        inside, flipped = self._inside(x.ndim - 2), x.clone()
        flipped[inside] = x[inside].flip([axis + 1 for axis in axes])
        return flipped

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        ones = [1] * (like.ndim - 2)
        mean, std = (to_device(values, like.device).to(like) for values in (self.mean, self.std))
        return mean.view(-1, *ones), std.view(-1, *ones)

    def _pads(self, num_sides: int) -> list[tuple[int, int]]:
        """Before and after each side; `pad` begins with the last one."""
        pads = list(zip(self.pad[::2], self.pad[1::2], strict=True))
        return [(0, 0)] * (num_sides - len(pads)) + pads[::-1]

    def _inside(self, num_sides: int) -> tuple[slice, ...]:
        within = [slice(before, -after or None) for before, after in self._pads(num_sides)]
        return slice(None), slice(None), *within

    def _in_slabs(
        self, function: Callable[[Tensor], Tensor], rows: Tensor, shape: Sequence[int]
    ) -> Tensor:
        """A function of the autoencoder in fp32, of so many rows at a time; the last are filled up.

        `shape` is that of a row of its result.
        """
        self.autoencoder.network.to(rows.device)
        size = max(1, min(MOST_ROWS, SLAB_VALUES // math.prod(self.autoencoder.image_shape)))
        found = rows.new_empty(len(rows), *shape)
        with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
            for start in range(0, len(rows), size):
                part = rows[start : start + size].float()
                filled = functional.pad(part, [0, 0] * (part.ndim - 1) + [0, size - len(part)])
                found[start : start + size] = function(filled)[: len(part)]
        return found


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = map(float, values)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"found {low}, {high}, expected a range")
    return low, high
