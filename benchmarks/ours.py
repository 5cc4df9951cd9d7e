"""The product's own loops, called as its commands call them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.model import Diffusion
from diffusion_ood.runtime.device import prepare
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.grid import TimeGrid

CPU = torch.device("cpu")
SEED = 2


def down(grid: TimeGrid, sampler: str = "ddim") -> Reconstruction:
    """Reconstructions down a grid, by default by the sampler of the reference loop."""
    return Reconstruction(
        num_inference_steps=grid.num_inference_steps,
        inference_skip_factor=grid.skip,
        sampler=sampler,
        seed=SEED,
    )


class OurScorer:
    """MSE and LPIPS of every reconstruction, as `reconstruct.py` computes them.

    Args:
        model: the diffusion model.
        method: its reconstructions.
        compiled: whether to compile the network.
        precision: `fp32` or `bf16`.
    """

    def __init__(
        self, model: Diffusion, method: Reconstruction, *, compiled: bool, precision: str
    ) -> None:
        self.method = method
        self.evaluator = BesideCalls(
            model, CPU, precision=precision, compile="on" if compiled else "off"
        )

    def __call__(self, images: Tensor, keys: list[str]) -> Tensor:
        """Scores `(B, starts, 2)` of images `(B, 1, H, W)` in [0, 1]."""
        starts = len(self.method.draws(self.evaluator.diffusion))
        values = torch.empty(len(images), starts, len(self.method.columns))
        for rows in self.method.measure(ImageBatch(images, keys), self.evaluator):
            values[rows.images] = rows.measured
        return values


class BesideCalls(Evaluator):
    """An evaluator that does something else after each of its network calls.

    Attributes:
        beside: what; None for nothing.
    """

    beside: Callable[[], None] | None = None

    def denoiser(self, guidance: float = 0.0, *, clip: bool = False) -> Denoiser:
        """As an evaluator's."""
        found = super().denoiser(guidance, clip=clip)

        def call(x_t: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
            eps = found(x_t, t, labels)
            if self.beside is not None:
                self.beside()
            return eps

        return call


def our_training_step(model: Diffusion, images: Tensor) -> Callable[[], object]:
    """A function that takes one training step in bf16, compiled."""
    prepare(model.network, CPU)
    plan = Plan(lr=1e-4, total_steps=1, seed=SEED, precision="bf16")
    trainer = Trainer(model.network, DiffusionObjective(model, 1000).loss, plan)
    trainer.compile()
    return lambda: [loss.item() for loss in trainer.epoch([Batch(images, len(images))])]
