"""What all trainings have: their options, and the images and classes that a network learns."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.utils import make_grid

from diffusion_ood.data.labels import class_names, class_numbers
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.pictures import planes
from diffusion_ood.options import (
    AutoencoderOptions,
    ClassifierOptions,
    ComputeOptions,
    DiffusionOptions,
    FitOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
    TrackOptions,
)
from diffusion_ood.options.stored import to_dict
from diffusion_ood.report.logs import Tracker
from diffusion_ood.training.trainer import Trainer

FORWARD = 1 / 3  # of a training step's time; its gradients take about twice that

Fit = TypeVar("Fit", bound=FitOptions, covariant=True)
Model = TypeVar(
    "Model", bound=DiffusionOptions | ClassifierOptions | AutoencoderOptions, covariant=True
)


@dataclass(frozen=True)
class TrainingSettings(Generic[Fit, Model]):
    """All options of a training run."""

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


class TrainingTask(ABC, Generic[Fit, Model]):
    """A network, which a subclass makes, and how it is trained and validated.

    Attributes:
        evaluated: the images of a validation, by the names of their sets.
        network: on its device; the trainer changes its weights.
        names: of the classes, if the network learns them.
        labels: the class of each training image (N,), if the network learns classes.
        metadata: facts of the network that a checkpoint stores, and that a resumed run must repeat.
        metrics: results of the last validation that a checkpoint stores.
        parts: what else a checkpoint stores, as tensors and plain values.

    Raises:
        UserError: labels that do not fit `num_classes`.
    """

    network: nn.Module

    def __init__(
        self,
        settings: TrainingSettings[Fit, Model],
        training: ImageSet,
        evaluated: Mapping[str, ImageSet],
    ) -> None:
        self.settings = settings
        self.fit = settings.fit
        self.training = training
        self.evaluated = evaluated
        self.names: tuple[str, ...] = ()
        self.labels: Tensor | None = None
        if num_classes := settings.model.num_classes:
            self.names = class_names(training.split, num_classes)
            self.labels = class_numbers(training.split, self.names)
            for images in evaluated.values():
                class_numbers(images.split, self.names)  # raises before the training starts
        self.metadata: dict[str, Any] = {
            "image_shape": tuple(training.shape),
            "classes": self.names,
        }
        self.metrics: dict[str, Any] = {}
        self.parts: dict[str, Any] = {}
        torch.manual_seed(settings.fit.seed)  # of the weights, which a subclass draws

    @abstractmethod
    def trainer(self, steps_per_epoch: int) -> Trainer:
        """A new trainer of the network, at step 0."""

    def augment(self, images: Tensor, indices: Sequence[int], epoch: int) -> Tensor:
        """A training batch `(b, C, *S)` in [0, 1] with the changes that epoch 0, 1, … makes."""
        return images

    @abstractmethod
    def validate(self, network: nn.Module, epoch: int, tracker: Tracker | None) -> float:
        """The validation loss, which is least in the best checkpoint; NaN if it is not finite.

        The network has the weights to evaluate; `epoch` is the number of finished epochs.
        """

    @property
    def validation_images(self) -> float:
        """So many images' training takes the time of a validation, which has no gradients."""
        batches = (b for images in self.evaluated.values() for b in self.batches(images))
        return sum(map(len, batches)) * FORWARD

    def batches(self, images: ImageSet) -> list[list[int]]:
        """The indices of a validation's images in batches; the first one alone in a quick test."""
        found = in_batches(len(images), self.fit.batch_size)
        return found[:1] if self.fit.quick_test else found


def in_batches(n: int, size: int) -> list[list[int]]:
    """The indices 0 … n − 1 in batches of `size`."""
    return [part.tolist() for part in torch.arange(n).split(size)]


def log_values(tracker: Tracker | None, group: str, epoch: int, **values: float) -> None:
    """Log values of an epoch, in the main process, which has a tracker."""
    if tracker:
        for name, value in values.items():
            tracker.scalar(group, name, value, epoch)
        tracker.flush()


def sheet(images: Tensor, columns: int) -> NDArray[np.uint8]:
    """A picture (height, width, 3) of images `(B, C, *S)` in [0, 1]; of volumes, three planes."""
    if images.ndim == 5:
        images = planes(images)
    grid = make_grid(images, nrow=columns, padding=1)
    pixels: NDArray[np.uint8] = (255 * grid).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return pixels
