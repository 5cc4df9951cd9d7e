"""The training task of the classifier, by the recipe of OpenOOD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.data.labels import class_names, class_numbers
from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.errors import UserError
from diffusion_ood.networks.resnet import Classifier
from diffusion_ood.options import ClassifierOptions, ClassifierTrainOptions
from diffusion_ood.options.fields import refuse_outside
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.training.classification import ClassificationObjective, accuracy
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.settings import TrainingSettings
from diffusion_ood.training.task import index_batches
from diffusion_ood.training.trainer import Plan, Trainer

LAST_LR = 1e-6
MOMENTUM = 0.9
PADDING_SHARE = 8  # of the shortest side: 4 pixels of 32
STATISTICS_BATCH = 512


class ClassifierTask:
    """Training of a classifier.

    Args:
        settings: all options.
        device: where to train.
        training: the training images, with labels.
        evaluated: the images to measure accuracies on: `validation`, and `test` if there are any.

    Attributes:
        accuracies: of the last validation, by the names of `evaluated`.

    Raises:
        UserError: labels that do not fit `num_classes`, or a batch of one image.
    """

    def __init__(
        self,
        settings: TrainingSettings[ClassifierTrainOptions, ClassifierOptions],
        device: torch.device,
        training: ImageSet,
        evaluated: Mapping[str, ImageSet],
    ) -> None:
        self.fit = settings.fit
        self.precision = settings.compute.precision
        self.evaluated = evaluated
        self.accuracies: dict[str, float] = {}
        model = settings.model
        self.names = class_names(training.split, model.num_classes)
        self.labels: Tensor | None = class_numbers(training.split, self.names)
        for images in evaluated.values():
            class_numbers(images.split, self.names)  # raises before the training starts
        least = 2 * distributed.world_size()
        if min(self.fit.batch_size, len(training)) < least:
            raise UserError(
                f"`batch_size`: found {self.fit.batch_size} with {len(training)} training images, "
                f"expected at least {least} images a step, 2 in each process, which batch "
                "normalisation needs"
            )
        torch.manual_seed(self.fit.seed)
        network = Classifier(model.classifier_type, training.shape, model.num_classes)
        network.mean, network.std = statistics(training)
        self.network = prepare(network, device)
        self.model_options: Sequence[object] = (settings.image, model)
        self.metadata: Mapping[str, Any] = {
            "image_shape": tuple(training.shape),
            "classes": self.names,
        }

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """SGD with Nesterov's momentum on the cross-entropy."""
        padding, side = self.fit.crop_padding, min(self.metadata["image_shape"][1:])
        if padding is None:
            padding = side // PADDING_SHARE
        refuse_outside("crop_padding", padding, most=side)
        plan = Plan(
            lr=self.fit.lr,
            lr_schedule="cosine",
            total_steps=self.fit.n_epochs * steps_per_epoch,
            ema_decay=0.0,
            precision=self.precision,
            seed=self.fit.seed,
            lr_end=min(LAST_LR, self.fit.lr),
        )
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=plan.lr,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=self.fit.weight_decay,
        )
        objective = ClassificationObjective(flip=self.fit.flip, padding=padding)
        return Trainer(self.network, objective, plan, optimizer)

    def augment(self, images: Tensor, indices: Sequence[int], epoch: int) -> Tensor:
        """The images without changes: the objective flips and shifts them."""
        return images

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """The share of misclassified validation images; NaN if their logits are not finite."""
        values: dict[str, float] = {}
        for name, images in self.evaluated.items():
            batches = index_batches(
                len(images), self.fit.batch_size, only_first=self.fit.quick_test
            )
            right, loss = accuracy(network, images, batches, self.names)
            self.accuracies[name] = right
            values |= {f"{name}_accuracy": right, f"{name}_loss": loss}
        if logs:
            logs.measured(epoch, values)
        wrong = 1 - self.accuracies["validation"]
        return wrong if math.isfinite(values["validation_loss"]) else math.nan

    def metrics(self) -> Mapping[str, Any]:
        """The accuracies of the last validation."""
        return {"accuracy": dict(self.accuracies)}


def statistics(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all images and pixels, shapes (C,)."""
    total = torch.zeros(2, images.shape[0], dtype=torch.float64)
    order = index_batches(len(images), STATISTICS_BATCH)
    for batch in image_batches(images, order, num_workers=0):
        pixels = batch.double().transpose(0, 1).flatten(1)
        total += torch.stack([pixels.sum(1), pixels.square().sum(1)])
    count = len(images) * torch.tensor(images.shape[1:]).prod()
    mean, square = total / count
    return mean.float(), (square - mean.square()).sqrt().clamp(min=1e-6).float()
