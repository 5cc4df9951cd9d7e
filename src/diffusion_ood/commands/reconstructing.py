"""A loaded model and its options, as one thing that reconstructs images of a set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.commands.measuring import Measuring
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.splits import Split
from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ComputeOptions, ReconstructOptions
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime.batching import MaybeCompiled
from diffusion_ood.runtime.device import best_rows, prepare
from diffusion_ood.scores.classifier import Watch
from diffusion_ood.trajectories.grid import Grid, network_calls
from diffusion_ood.trajectories.order import batch_width
from diffusion_ood.trajectories.reconstruct import reconstruct
from diffusion_ood.trajectories.rounding import exact_calls


class Reconstructor:
    """Reconstructs images as the options of `reconstruct.py` say.

    Args:
        line: the command line, with the seed, the sampler, the guidance and the precision.
        model: the diffusion model, whose network is moved to the device.
        grid: the trajectories that most of the work is in.
        measuring: knows the classes of images, if they have any.
        device: where to compute.
    """

    def __init__(
        self,
        line: cli.CommandLine,
        model: Diffusion,
        grid: Grid,
        measuring: Measuring,
        device: torch.device,
    ) -> None:
        self.options = options = line[ReconstructOptions]
        self.model = model
        self.measuring = measuring
        self.device = device
        self.sampler = SAMPLERS[options.solver]
        repeats, rows = options.repeats, options.rows_per_call
        precision = line[ComputeOptions].precision
        most = options.max_batch or best_rows(model.activation_values, device, precision)
        self.width = batch_width(grid, options.batch_size * repeats, max(1, most // rows))
        self.network = MaybeCompiled(
            prepare(model.network, device),
            rows * self.width,
            line[ComputeOptions].compile,
            device,
            precision,
        )
        self._denoiser = model.guided(self.network, options.guidance)
        self.calls = network_calls(grid, self.sampler) * repeats * rows
        self.exact_calls = 0
        self._exact: Denoiser | None = None
        if precision == "bf16":
            self.exact_calls = exact_calls(grid, model.schedule, self.sampler) * repeats * rows
            self._exact = model.guided(model.network, options.guidance)

    def __str__(self) -> str:
        """What reconstructing an image takes."""
        in_fp32 = f", {self.exact_calls} of them in fp32" if self.exact_calls else ""
        return (
            f"{self.calls} network calls an image{in_fp32}, {self.options.way_down}, "
            f"{self.width} trajectories in a call"
        )

    def expect(self, images: int) -> None:
        """Say how many images are to come, by which it is decided whether to compile."""
        self.network.expect(images * (self.calls - self.exact_calls))

    def run(
        self,
        split: Split,
        batch: list[int],
        pixels: Tensor,
        watch: Watch | None,
        grid: Grid,
        repeats: int,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The reconstructions of images `(B, C, *S)` in [0, 1], the split's at these indices."""
        return reconstruct(
            self.model,
            self._denoiser,
            self.sampler,
            grid,
            pixels.to(self.device),
            [split.images[index] for index in batch],
            self.options.seed,
            self.width,
            exact=self._exact,
            repeats=repeats,
            shared_noise=bool(self.options.levels),
            labels=self.measuring.labels(split, batch, watch),
        )

    def cells(self, images: ImageSet, indices: list[int], grid: Grid, repeats: int) -> Tensor:
        """Images beside their reconstructions, t rising: `(B, 1 + slots, C, *S)` in [0, 1]."""
        pixels = images.batch(indices)
        cells = torch.empty(len(indices), 1 + len(grid.starts) * repeats, *images.shape)
        cells[:, 0] = pixels
        watch = self.measuring.watch(pixels.to(self.device))
        for image, slot, found in self.run(images.split, indices, pixels, watch, grid, repeats):
            cells[image, 1 + slot] = found.cpu()
        return cells
