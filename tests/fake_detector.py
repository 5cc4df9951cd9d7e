"""A detector that needs no model: scores and maps are functions of the pixels alone."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from diffusion_ood.data.inputs import Reader
from diffusion_ood.options import ImageOptions


@dataclass(frozen=True)
class FakeScores:
    """As a detector's."""

    score: np.ndarray
    p_value: np.ndarray
    is_ood: np.ndarray
    loudest: list[str]
    maps: np.ndarray | None


class FakeDetector:
    """Calls an image out of distribution that is brighter than 95 % of the validation images."""

    target_fpr = 0.05
    map_limit = 0.2
    val_scores = np.linspace(0, 0.5, 99)

    def __init__(self, seconds: float = 0.0, shape: tuple[int, ...] = (1, 8, 8)) -> None:
        self.seconds, self.image_shape = seconds, shape
        self.reader = Reader(ImageOptions(is_grayscale=True), shape)
        self.batches: list[int] = []
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def summary(self) -> dict[str, Any]:
        """As a detector's."""
        return {"methods": ["brightness"], "validation_images": 99}

    def measure(self, pixels: torch.Tensor, maps: bool = False) -> FakeScores:
        """As a detector's; waits for `gate`, and raises the next of `failures`."""
        assert pixels.shape[1:] == self.image_shape
        self.gate.wait(30)
        time.sleep(self.seconds)
        self.batches.append(len(pixels))
        if self.failures:
            raise self.failures.pop()
        score = pixels.flatten(1).mean(dim=1).double().numpy()
        above = (self.val_scores[None] >= score[:, None]).sum(axis=1)
        p_value = (1 + above) / 100
        where = pixels.mean(dim=1).numpy() if maps else None
        names = ["brightness"] * len(pixels)
        return FakeScores(score, p_value, p_value <= self.target_fpr, names, where)
