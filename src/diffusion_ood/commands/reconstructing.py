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
from diffusion_ood.diffusion.model import DiffusionModel
from diffusion_ood.diffusion.samplers import SAMPLERS
from diffusion_ood.options import ComputeOptions, ReconstructOptions
from diffusion_ood.runtime.batching import Network
from diffusion_ood.runtime.device import autocast
from diffusion_ood.scores.classifier import Watch
from diffusion_ood.trajectories.grid import Grid
from diffusion_ood.trajectories.reconstruct import reconstruct


class Reconstructor:
    """Reconstructs images as the options of `reconstruct.py` say.

    Args:
        line: the command line, with the seed, the sampler, the guidance and the precision.
        model: the diffusion model.
        network: that of the model, perhaps compiled.
        measuring: knows the classes of images, if they have any.
        width: trajectories in one network call.
        device: where to compute.
    """

    def __init__(
        self,
        line: cli.CommandLine,
        model: DiffusionModel,
        network: Network,
        measuring: Measuring,
        width: int,
        device: torch.device,
    ) -> None:
        self.options = line[ReconstructOptions]
        self.precision = line[ComputeOptions].precision
        self.model = model
        self.network = network
        self.measuring = measuring
        self.width = width
        self.device = device

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
            self._denoiser(),
            SAMPLERS[self.options.solver],
            grid,
            pixels.to(self.device),
            [split.images[index] for index in batch],
            self.options.seed,
            self.width,
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

    def _denoiser(self) -> Denoiser:
        """ε̂ by the network as it is now, plain or compiled, at the precision asked for."""

        def network(x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
            with autocast(self.device, self.precision):
                return self.network(x, t, **labels)

        return self.model.guided(network, self.options.guidance)
