"""Every option of every script, declared once.

The classes are frozen, hold no behaviour beyond refusing impossible values, and import nothing
heavy, so that `--help` answers at once. They are written to `config.json` and, where they describe
the model, into the checkpoint: `reconstruct.py` reads them back from there.
"""

from diffusion_ood.options.datasets import DatasetOptions
from diffusion_ood.options.detection import DetectOptions
from diffusion_ood.options.models import (
    ComputeOptions,
    DiffusionOptions,
    ImageOptions,
    LoadingOptions,
    ReconstructOptions,
    RunOptions,
    TrainOptions,
)

__all__ = [
    "ComputeOptions",
    "DatasetOptions",
    "DetectOptions",
    "DiffusionOptions",
    "ImageOptions",
    "LoadingOptions",
    "ReconstructOptions",
    "RunOptions",
    "TrainOptions",
]
