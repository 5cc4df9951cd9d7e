"""The product's own loops, called as its commands call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusion_ood.scores.base import Score
from diffusion_ood.scores.mse import MeanSquaredError
from diffusion_ood.scores.perceptual import PerceptualDifference
from diffusion_ood.scores.reconstruction import score_each
from diffusion_ood.trajectories.reconstruct import reconstruct
from torch import Tensor

from diffusion_ood.model import Diffusion
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime.compiling import CompiledForFullBatches
from diffusion_ood.runtime.device import autocast, best_rows, prepare
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Plan, Trainer
from diffusion_ood.trajectories.grid import Grid
from diffusion_ood.trajectories.order import batch_width

CPU = torch.device("cpu")
SEED = 2


class OurScorer:
    """MSE and LPIPS of every reconstruction, as `reconstruct.py` computes them.

    Args:
        model: the diffusion model.
        grid: its trajectories.
        images: how many are scored at a time.
        compiled: whether to compile the network.
        precision: `fp32` or `bf16`.
    """

    def __init__(
        self, model: Diffusion, grid: Grid, images: int, *, compiled: bool, precision: str
    ) -> None:
        self.model, self.grid, self.precision = model, grid, precision
        self.sampler = SAMPLERS["ddim"]  # that of the reference loop
        rows = best_rows(model.activation_values, CPU, precision)
        self.width = batch_width(grid, images, rows)
        network: Any = prepare(model.network, CPU)
        self.network = CompiledForFullBatches(network, self.width) if compiled else network
        self.exact = model.denoiser(network) if precision == "bf16" else None
        features = find_alexnet_features()
        assert features is not None, "the bench needs the LPIPS weights"
        self.scores: list[Score] = [MeanSquaredError(), PerceptualDifference(features, CPU)]

    def __call__(self, images: Tensor, keys: list[str]) -> Tensor:
        """Scores `(B, starts, 2)` of images `(B, 1, H, W)` in [0, 1]."""

        def network(x: Tensor, t: Tensor) -> Tensor:
            with autocast(CPU, self.precision):
                output: Tensor = self.network(x, t)
            return output

        denoiser = self.model.denoiser(network)
        stream = reconstruct(
            self.model,
            denoiser,
            self.sampler,
            self.grid,
            images,
            keys,
            SEED,
            self.width,
            exact=self.exact,
        )
        values = torch.empty(len(images), len(self.grid.starts), len(self.scores))
        for _ in score_each(self.scores, images, stream, values):
            pass
        return values


def our_training_step(model: Diffusion, images: Tensor) -> Callable[[], object]:
    """A function that takes one training step in bf16, compiled."""
    prepare(model.network, CPU)
    plan = Plan(
        lr=1e-4, lr_schedule="constant", total_steps=1, ema_decay=0.0, precision="bf16", seed=SEED
    )
    trainer = Trainer(model.network, DiffusionObjective(model, 1000), plan)
    trainer.compile()
    return lambda: [loss.item() for loss in trainer.epoch([(len(images), images)])]
