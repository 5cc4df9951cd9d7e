"""The loops of `reference.py` as contenders of `benchmarks/gpu.py`, on any device."""

from __future__ import annotations

import copy

import torch
from gpu_cases import CALLS, GRID_SKIP, MEASURED_SKIP, Case, How, Work
from gpu_device import as_shipped
from models import lpips_package
from reference import ReferenceScorer, reference_times, reference_training_step

from diffusion_ood.model import Diffusion
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.trajectories.grid import TimeGrid


def plain(case: Case, how: How, model: Diffusion, device: torch.device) -> Work:
    """Its work; the noise is drawn on the device, and cuDNN is as torch ships it."""
    pixels = torch.rand(case.images, *model.image_shape)
    if case.work == "training":
        return _training(case, how, model, pixels, device)
    scorer, share = _scorer(case, how, model, device), 1.0
    if case.work == "grid":
        starts, stride = _grid(GRID_SKIP)
        share = scorer.calls / sum(len(reference_times(start, stride)) for start in starts)

    def run(images: int) -> None:
        with as_shipped():
            for _ in range(images // case.images):
                scorer(pixels, [], None)

    return Work(run, case.images, scorer.calls, share)


def _scorer(case: Case, how: How, model: Diffusion, device: torch.device) -> ReferenceScorer:
    levels = tuple(range(50, 1000, 1000 // CALLS)), None
    starts, stride = _grid(MEASURED_SKIP) if case.work == "grid" else levels
    lpips = len(case.sides) == 2 and find_alexnet_features() is not None
    perceptual = lpips_package() if lpips else None
    return ReferenceScorer(model, starts, stride, perceptual, device, how.precision)


def _grid(skip: int) -> tuple[tuple[int, ...], int]:
    """Start points and stride of the paper's grid with every `skip`-th start point."""
    grid = TimeGrid(1000, 100, skip)
    return grid.starts, grid.stride


def _training(
    case: Case, how: How, model: Diffusion, pixels: torch.Tensor, device: torch.device
) -> Work:
    own = copy.copy(model)
    own.network = copy.deepcopy(model.network).to(device)
    own.network.to(memory_format=torch.contiguous_format).train().requires_grad_(True)
    optimizer = torch.optim.Adam(own.network.parameters(), lr=1e-4)

    def run(images: int) -> None:
        with as_shipped():
            for _ in range(images // case.images):
                reference_training_step(own, optimizer, pixels.to(device), how.precision)

    return Work(run, case.images)
