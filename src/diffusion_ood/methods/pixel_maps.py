"""Where in an image: what one look at its noisy self leaves of each pixel, by validation images.

Of x̂_0 (Ho et al. 2020, equation 15) at a level there are two kinds of evidence for each pixel.
Its squared error, a mean over channels, is never negative, and unusual where it is large. Its
difference has a sign: x_0 − x̂_0 = √((1 − ᾱ) / ᾱ) (ε̂ − ε), that is ε̂ without the noise that was
put in, and is unusual either way. ε̂² itself is mostly that noise, and shows little.

A map is the mean over levels, repeats and both kinds of

    |z(mean_c (x_0 − x̂_0))|   and   max(0, z(√mean_c (x_0 − x̂_0)²)),   z(v) = (v − μ) / s,

smoothed by a Gaussian. μ and σ are of each pixel over validation images. s² = σ² + (3 σ̄)² with σ̄²
the mean of σ² over pixels: a pixel that never varied, as at borders, is not infinitely unusual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.pointwise import Answers, EvenMethod, Point
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.evaluator import Evaluator

# Chosen on lesions put into validation images of MNIST and FashionMNIST.
FLOOR = 3.0  # times the spread of all pixels
SMOOTHING = 0.05  # σ, as a share of a side


@dataclass(kw_only=True, eq=False)
class PixelMaps(EvenMethod):
    """Both kinds of evidence for each pixel, first all errors, then all differences.

    It asks about the points of a `Denoising` with equal settings, and costs no call beside it. No
    table is written of it: its columns are two a pixel.

    Args:
        num_levels, ends, repeats, seed: see `EvenMethod`.
        of_latents: look at the latents of a latent model, whose "pixels" are few, and decode none.
    """

    name = "pixel_maps"

    of_latents: bool = False

    @classmethod
    def beside(cls, method: Denoising) -> PixelMaps:
        """At the points of another method."""
        return cls(
            num_levels=method.num_levels,
            ends=method.ends,
            repeats=method.repeats,
            seed=method.seed,
            of_latents=not method.decodes,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The two kinds, which have a column for each pixel."""
        return ("error", "difference")

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The noisy image at every level."""
        return [Point(t, repeat) for t, repeat in self.draws(diffusion)]

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Both kinds, float32 `(n, draws, 2 · pixels)`, where pixels = prod(*S)."""
        diffusion = evaluator.diffusion
        rows = []
        for point in self.points(diffusion):
            x_0 = answers[point].x_0
            difference = (
                batch.forms(diffusion).take("latent") - x_0.take("latent")
                if self.of_latents
                else batch.images - x_0.decoded
            ).flatten(2)
            kinds = difference.square().mean(1), difference.mean(1)
            rows.append(torch.cat(kinds, -1))
        return torch.stack(rows, 1)


class PixelCalibration:
    """Mean and spread of each pixel's evidence over validation images, and maps by them.

    Args:
        sides: *S of the images.

    Attributes:
        mean, scale: μ and s of each draw, kind and pixel, float32 `(draws, 2, *S)`, once it is
            finished.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        self.sides = tuple(sides)
        self.mean = self.scale = np.empty(0, np.float32)
        self._count = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0

    def update(self, raw: ArrayLike | Tensor) -> None:
        """Add what `PixelMaps` gives of validation images, `(n, draws, 2 · pixels)`.

        The sums do not depend on how images are divided among calls.
        """
        for values in self._values(raw).astype(np.float64):
            self._count += 1
            self._sum = self._sum + values
            self._squares = self._squares + values**2

    def finish(self) -> None:
        """Make mean and scale of the sums.

        Raises:
            ValueError: fewer than two images.
        """
        if self._count < 2:
            raise ValueError(f"found {self._count} images, expected at least 2 to calibrate maps")
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean**2, 0)
        pixels = tuple(range(2, variance.ndim))
        floor = FLOOR**2 * variance.mean(axis=pixels, keepdims=True)
        scale = np.sqrt(variance + floor)
        self.mean = mean.astype(np.float32)
        self.scale = np.where(scale > 0, scale, 1).astype(np.float32)

    def maps(self, raw: ArrayLike | Tensor) -> NDArray[np.float32]:
        """The map of each image, float32 `(n, *S)`; higher where it is more unusual.

        Args:
            raw: as in `update`.
        """
        error, difference = np.moveaxis((self._values(raw) - self.mean) / self.scale, 2, 0)
        joined = (np.maximum(error, 0) + np.abs(difference)).mean(axis=1) / 2
        sigmas = [0, *(SMOOTHING * side for side in self.sides)]
        smooth: NDArray[np.float32] = gaussian_filter(joined, sigmas, mode="nearest")
        return smooth

    def state_dict(self) -> dict[str, Any]:
        """Mean and scale, as arrays."""
        return {"mean": self.mean, "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, as arrays or tensors.

        Raises:
            ValueError: arrays that are not those of images with these sides.
        """
        mean, scale = (np.asarray(state[name], np.float32) for name in ("mean", "scale"))
        if mean.shape != scale.shape or mean.shape[1:] != (2, *self.sides):
            raise ValueError(f"found maps of {mean.shape[2:]}, expected {self.sides}")
        self.mean, self.scale = mean, scale

    def _values(self, raw: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Roots of errors, and differences, `(n, draws, 2, *S)`."""
        found = np.asarray(raw, np.float32)
        values = found.reshape(*found.shape[:2], 2, *self.sides).copy()
        values[:, :, 0] = np.sqrt(values[:, :, 0])
        return values
