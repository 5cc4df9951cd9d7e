"""Maps of where images are unusual, by what validation images are like there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diffusion_ood.methods.base import Method
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.pixel_maps import PixelCalibration, PixelMaps
from diffusion_ood.model import Diffusion

if TYPE_CHECKING:
    from typing_extensions import Self

KEPT_IMAGES, KEPT_VALUES = 32, 2**25
"""Validation images, and values of them at most, of which the scale of pictures is made."""
USUAL = 0.995
MODES = {2: "bilinear", 3: "trilinear"}


class CalibratedMaps:
    """Measures and calibrates maps beside another method, whose network calls they share.

    Args:
        method: measures.
        sides: *S of the images.
        measured: *s of what is measured of them, where it is other than their pixels.

    Attributes:
        limit: the scale of pictures: one in 200 pixels of validation images exceeds half of it.
    """

    def __init__(
        self, method: PixelMaps, sides: Sequence[int], measured: Sequence[int] = ()
    ) -> None:
        self.method, self.limit = method, 0.0
        self._sides = tuple(sides)
        self._calibration = PixelCalibration(measured or sides)
        self._kept: list[NDArray[np.float32]] = []

    @classmethod
    def beside(cls, methods: Sequence[Method], diffusion: Diffusion) -> Self | None:
        """Those at the points of the first `Denoising`; None where there is none."""
        for method in methods:
            if isinstance(method, Denoising):
                maps, sides = PixelMaps.beside(method), diffusion.image_shape[1:]
                latents = diffusion.codec.latents(torch.empty(1, *diffusion.x_shape))
                return cls(maps, sides, latents.shape[2:] if maps.of_latents else ())
        return None

    def update(self, raw: Tensor) -> None:
        """Add what `method` gives of validation images, `(n, draws, 2 · pixels)`."""
        values = raw.numpy()
        self._calibration.update(values)
        for image in values:
            if len(self._kept) < KEPT_IMAGES and (len(self._kept) + 1) * image.size <= KEPT_VALUES:
                self._kept.append(image)

    def finish(self) -> None:
        """Calibrate; there were at least two images."""
        self._calibration.finish()
        usual = [np.quantile(self.maps(raw[None]), USUAL) for raw in self._kept]
        self.limit = 2 * float(np.mean(usual)) if usual else 1.0
        self._kept.clear()

    def maps(self, raw: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
        """The map of each image `(n, *S)`, of what `method` gives of them."""
        found = self._calibration.maps(np.asarray(raw))
        if found.shape[1:] == self._sides:
            return found
        mode = MODES[len(self._sides)]
        large = functional.interpolate(torch.from_numpy(found)[:, None], self._sides, mode=mode)
        enlarged: NDArray[np.float32] = large[:, 0].numpy()
        return enlarged

    def state_dict(self) -> dict[str, Any]:
        """Everything that was calibrated."""
        return {"limit": self.limit, **self._calibration.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; ValueError of other images."""
        self.limit = float(state["limit"])
        self._calibration.load_state_dict(state)
