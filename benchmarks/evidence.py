"""Joined evidence by three calls against the reference loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from models import lpips_package
from ours import CPU, SEED
from reference import ReferenceScorer
from timing import interleaved, ratio
from torch import Tensor

from diffusion_ood.calibration.base import features
from diffusion_ood.calibration.joined import Joined
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.features import Features
from diffusion_ood.methods.joined import joined
from diffusion_ood.methods.measure import table
from diffusion_ood.methods.pointwise import PointwiseMethod, measure_together
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.grid import TimeGrid

BUDGET = 3


def three_calls(model: Diffusion, images: ImageSet, repeats: int) -> dict[str, Any]:
    """Seconds an image of the reference at skip factor 4 over ours, LPIPS and heads included.

    Args:
        model: the diffusion model.
        images: 16 are scored by the reference and 128 by us, which fill a few batches; others are
            learned from and calibrated on.
        repeats: interleaved runs.
    """
    count, ours_count = 16, 128
    grid = TimeGrid(1000, 100, 4)
    theirs = ReferenceScorer(model, grid.starts, grid.stride, lpips_package())
    ours = Joint(model, images, range(ours_count, ours_count + 200))
    pixels, keys = images.batch(range(ours_count)), list(images.split.images[:ours_count])
    times = interleaved(
        {
            "reference": lambda: theirs(pixels[:count], keys[:count], SEED),
            "ours": lambda: ours(pixels, keys),
        },
        repeats,
    )
    return {
        "speedup": ratio(times, "reference", "ours") * ours_count / count,
        "reference": str(times["reference"]),
        "ours": str(times["ours"]),
        "images": count,
        "images_ours": ours_count,
    }


class Joint:
    """Joined evidence of images, fitted on some of a set."""

    def __init__(self, model: Diffusion, images: ImageSet, fitted_on: range) -> None:
        options = ReconstructOptions(methods=("joined",), budget=BUDGET, seed=SEED)
        methods = joined(options)
        self.methods = [method for method in methods if isinstance(method, PointwiseMethod)]
        self.evaluator = Evaluator(model, CPU, precision="bf16", compile="on")
        pixels = images.batch(fitted_on)
        keys = [images.split.images[number] for number in fitted_on]
        for method in self.methods:
            if isinstance(method, Features):
                method.learn([ImageBatch(pixels, keys)], self.evaluator)
        self.head = Joined().fit(self.features(pixels, keys))

    def features(self, images: Tensor, keys: list[str]) -> pd.DataFrame:
        """What the head takes, of images `(B, C, *S)` in [0, 1]."""
        frames = []
        batch = ImageBatch(images, keys)
        for method, rows in measure_together(self.methods, batch, self.evaluator):
            values = rows.measured[torch.tensor(rows.images).argsort()]
            found = features(table(method, self.evaluator.diffusion, keys, values))
            frames.append(found.rename(columns=lambda c, of=method.name: f"{of}/{c}", level=0))
        return pd.concat(frames, axis=1)

    def __call__(self, images: Tensor, keys: list[str]) -> np.ndarray[Any, Any]:
        """The joined score of each image (B,)."""
        return self.head.score(self.features(images, keys)).to_numpy()
