"""Every option of every script, declared once.

The classes are frozen, hold no behaviour beyond refusing impossible values, and import nothing
heavy, so that `--help` answers at once. They are written to `config.json` and, where they describe
the model, into the checkpoint: `reconstruct.py` reads them back from there.
"""

from diffusion_ood.options.datasets import DatasetOptions
from diffusion_ood.options.detection import DetectOptions
from diffusion_ood.options.diffood import MainOptions, OodDetectOptions
from diffusion_ood.options.models import (
    ClassifierOptions,
    ComputeOptions,
    DiffusionOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
)
from diffusion_ood.options.reconstruction import ReconstructOptions
from diffusion_ood.options.sampling import InterpolationOptions, SampleOptions
from diffusion_ood.options.tracking import TrackOptions
from diffusion_ood.options.training import ClassifierTrainOptions, FitOptions, TrainOptions

__all__ = [
    "ClassifierOptions",
    "ClassifierTrainOptions",
    "ComputeOptions",
    "DatasetOptions",
    "DetectOptions",
    "DiffusionOptions",
    "FitOptions",
    "ImageOptions",
    "InterpolationOptions",
    "LoadingOptions",
    "MainOptions",
    "OodDetectOptions",
    "ReconstructOptions",
    "RunOptions",
    "SampleOptions",
    "TrackOptions",
    "TrainOptions",
]
