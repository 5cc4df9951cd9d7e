"""Training: images a second, eager fp32 against bf16 and compiled."""

from __future__ import annotations

import time
from typing import Any

import torch
from models import fresh_model
from ours import our_training_step
from reference import reference_training_step
from timing import interleaved, ratio

from diffusion_ood.data.loaders import ImageSet


def train_speed(model_type: str, images: ImageSet, repeats: int) -> dict[str, Any]:
    """Training images a second: eager fp32 against bf16 and compiled."""
    batch = 128 if model_type == "tiny" else 64
    pixels = images.batch(range(batch))
    theirs, ours = fresh_model(model_type), fresh_model(model_type)
    optimizer = torch.optim.Adam(theirs.network.parameters(), lr=1e-4)
    begin = time.perf_counter()
    step = our_training_step(ours, pixels)
    step()
    first_s = time.perf_counter() - begin
    theirs.network.train()
    times = interleaved(
        {
            "reference": lambda: reference_training_step(theirs, optimizer, pixels),
            "ours": step,
        },
        4 * repeats,
    )
    return {
        "speedup": ratio(times, "reference", "ours"),
        "reference_images_per_s": batch / times["reference"].median,
        "ours_images_per_s": batch / times["ours"].median,
        "batch": batch,
        "compile_s": first_s - times["ours"].median,
    }
