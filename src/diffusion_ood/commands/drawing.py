"""A checkpoint's model, ready for trajectories that end in pictures, and the pictures' files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusion_ood.commands import run_files
from diffusion_ood.options import ComputeOptions
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.batching import MaybeCompiled
from diffusion_ood.runtime.device import best_rows, prepare
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories


class Drawing:
    """The model of a checkpoint on a device.

    Args:
        path: the checkpoint.
        sampler: a key of `SAMPLERS`.
        compute: how to compute.
        device: where to compute.
        max_batch: rows in one network call; without, as many as it is fastest with.
        guidance: strength β of the guidance; above 0 a trajectory is two rows.
        clip: whether predictions x̂_0 are clipped to the range of images.
    """

    def __init__(
        self,
        path: Path,
        sampler: str,
        compute: ComputeOptions,
        device: torch.device,
        *,
        max_batch: int | None,
        guidance: float = 0.0,
        clip: bool = False,
    ) -> None:
        self.model, self.image_options, self.content = run_files.load_model(path)
        self._rows = 2 if guidance else 1
        most = max_batch or best_rows(self.model.activation_values, device, compute.precision)
        self._width = max(1, most // self._rows)
        self._sampler = SAMPLERS[sampler]
        self._device = device
        self._network = MaybeCompiled(
            prepare(self.model.network, device),
            self._rows * self._width,
            compute.compile,
            device,
            compute.precision,
        )
        guided = self.model.guided(self._network, guidance)
        self._denoiser = self.model.clipped(guided) if clip else guided

    def expect(self, trajectories: int, steps: int) -> None:
        """Say how much is to come, by which it is decided whether to compile."""
        self._network.expect(trajectories * steps * self._rows)

    @torch.inference_mode()
    def run(self, trajectories: Iterable[Trajectory]) -> Iterator[tuple[list[int], Tensor]]:
        """The rows of trajectories as they end, and their `x`, `(n, C, *S)` on the device."""
        for rows, x in run_trajectories(
            self._at_trained_times,
            self.model.schedule,
            self._sampler,
            trajectories,
            self._device,
            self._width,
        ):
            yield rows, x
            if sentence := self._network.decision():
                distributed.print_once(sentence)

    def _at_trained_times(self, x: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """ε̂, at t = 0 where a trajectory goes up from the clean image, which has no time."""
        return self._denoiser(x, t.clamp(min=0), labels)


def write_png(path: Path, image: Tensor) -> None:
    """An image `(C, H, W)` in [0, 1] as bytes, grey or in colours."""
    pixels = (image * 255).round().to(torch.uint8).movedim(0, 2).squeeze(2).cpu().numpy()
    with atomic_write(path, "wb") as file:
        Image.fromarray(pixels).save(file, format="png")


def read_png(path: Path) -> Tensor:
    """What `write_png` wrote, `(C, H, W)`."""
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image))
    return pixels.reshape(*pixels.shape[:2], -1).movedim(2, 0) / 255
