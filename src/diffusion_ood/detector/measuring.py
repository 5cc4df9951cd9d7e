"""What a detector measures of images, and what is measured of those that it is fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood.calibration.base import as_features
from diffusion_ood.data.inputs import Images, Reader
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.calibrated_maps import CalibratedMaps
from diffusion_ood.methods.measure import content_key, measure_all
from diffusion_ood.model import Diffusion
from diffusion_ood.runtime.device import pick_device, steady_rows
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.trajectories.evaluator import Evaluator


def new_evaluator(
    diffusion: Diffusion, device: str | torch.device, precision: str, compile: str = "off"
) -> Evaluator:
    """One whose answers do not depend on the company of an image.

    With `compile` on or auto they depend on whether it is compiled, by the rounding of the
    precision; CUDA graphs do not move them.
    """
    found = pick_device(device) if isinstance(device, str) else device
    mode = "graph" if compile == "off" else compile
    return Evaluator(
        diffusion, found, precision=precision, compile=mode, min_rows=steady_rows(found)
    )


def keyed_batches(images: Images, evaluator: Evaluator, title: str) -> Iterator[ImageBatch]:
    """Images with their keys, and a bar of this title where it has one."""
    diffusion = evaluator.diffusion
    reader = Reader(diffusion.image_options, diffusion.image_shape)
    hidden = None if title else True  # None: also hidden where the output is not a terminal
    with tqdm(total=len(images), desc=title, unit="image", disable=hidden) as bar:
        for pixels in reader.batches(images):
            yield keyed(pixels, evaluator)
            bar.update(len(pixels))


def keyed(pixels: Tensor, evaluator: Evaluator) -> ImageBatch:
    """Images `(N, C, *S)` as methods take them, on the device, their noise drawn by content."""
    keys = [content_key(image) for image in pixels]
    return ImageBatch(to_device(pixels, evaluator.device), keys)


def measured(
    methods: Sequence[Method], maps: CalibratedMaps | None, batch: ImageBatch, evaluator: Evaluator
) -> tuple[pd.DataFrame, Tensor]:
    """What was measured of a batch, its columns named `method/column`, and of each pixel."""
    found = measure_all([*methods, *([maps.method] if maps else [])], batch, evaluator)
    frames = []
    for one in methods:
        draws, prefix = one.draws(evaluator.diffusion), f"{one.name}/"
        frames.append(as_features(found[one.name].numpy(), draws, one.columns, prefix))
    return pd.concat(frames, axis=1), found[maps.method.name] if maps else torch.empty(0)
