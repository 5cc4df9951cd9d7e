"""The settings of a training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from diffusion_ood.options import (
    ComputeOptions,
    FitOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
    TrackOptions,
)
from diffusion_ood.options.stored import to_dict

Fit = TypeVar("Fit", bound=FitOptions, covariant=True)
Model = TypeVar("Model", covariant=True)


@dataclass(frozen=True)
class TrainingSettings(Generic[Fit, Model]):
    """All options of a training run.

    Args:
        run: the run directory.
        fit: how to train.
        image: how a file becomes an image.
        model: what the network is.
        loading: how images are read.
        compute: the device and its precision.
        track: where losses are logged.
    """

    run: RunOptions
    fit: Fit
    image: ImageOptions
    model: Model
    loading: LoadingOptions
    compute: ComputeOptions
    track: TrackOptions

    def config(self) -> dict[str, dict[str, Any]]:
        """The options as plain values, by the names of their classes."""
        groups = (getattr(self, field.name) for field in dataclasses.fields(self))
        return {type(group).__name__: to_dict(group) for group in groups}
