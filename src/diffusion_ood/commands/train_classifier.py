"""Train the classifier whose outputs the scores logit_l1 and feature_l1 compare.

Reads split CSVs with labels; writes checkpoints, config.json and logs to output_dir/model_name.
Run the same command again to go on from the last checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood import cli
from diffusion_ood.commands.training_run import TrainingRun, open_data, whole_batches
from diffusion_ood.data.labels import class_names, class_numbers
from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.errors import UserError
from diffusion_ood.networks.resnet import Classifier
from diffusion_ood.options import (
    ClassifierOptions,
    ClassifierTrainOptions,
    ComputeOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
    TrackOptions,
)
from diffusion_ood.options.checks import at_most
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.training.classification import ClassificationObjective, accuracy
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.trainer import Plan, Trainer

GROUPS = (
    RunOptions,
    ClassifierTrainOptions,
    ImageOptions,
    ClassifierOptions,
    LoadingOptions,
    ComputeOptions,
    TrackOptions,
)

LAST_LR = 1e-6
MOMENTUM = 0.9
PADDING_SHARE = 8  # of the shortest side: 4 pixels of 32
STATISTICS_BATCH = 512


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    options = line[ClassifierTrainOptions]
    with distributed.process_group(line[ComputeOptions].device) as device:
        others = [options.test_ids] if options.test_ids else []
        training, *measured = open_data(line, options, *others)
        sets = dict(zip(("validation", "test"), measured, strict=False))
        subject = _ClassifierSubject(line, device, training, sets)
        TrainingRun(line, GROUPS, options, device, training, subject).train()
        for name, value in subject.accuracies.items():
            distributed.print_once(f"{name} accuracy: {100 * value:.2f} %")


class _ClassifierSubject:
    """A classifier in training by the recipe of OpenOOD."""

    groups: Sequence[type] = (ImageOptions, ClassifierOptions)

    def __init__(
        self,
        line: cli.CommandLine,
        device: torch.device,
        training: ImageSet,
        measured: Mapping[str, ImageSet],
    ) -> None:
        self.line = line
        self.options = line[ClassifierTrainOptions]
        self.measured = measured
        self.accuracies: dict[str, float] = {}
        model = line[ClassifierOptions]
        self.names = class_names(training.split, model.num_classes)
        self.labels: Tensor | None = class_numbers(training.split, self.names)
        for images in measured.values():
            class_numbers(images.split, self.names)  # says now what is wrong there
        if min(self.options.batch_size, len(training)) < 2:
            raise UserError(
                f"--batch_size: found {self.options.batch_size} of {len(training)} training "
                "images, expected at least 2, since batch normalisation compares them"
            )
        torch.manual_seed(self.options.seed)
        network = Classifier(model.classifier_type, training.shape, model.num_classes)
        network.mean, network.std = statistics(training)
        self.network = prepare(network, device)
        self.identity: Mapping[str, Any] = {
            "image_shape": tuple(training.shape),
            "classes": self.names,
        }

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """SGD with Nesterov's momentum on the cross-entropy."""
        padding, side = self.options.crop_padding, min(self.identity["image_shape"][1:])
        if padding is None:
            padding = side // PADDING_SHARE
        at_most("crop_padding", padding, side)
        plan = Plan(
            lr=self.options.lr,
            lr_schedule="cosine",
            total_steps=self.options.n_epochs * steps_per_epoch,
            ema_decay=0.0,
            precision=self.line[ComputeOptions].precision,
            seed=self.options.seed,
            lr_end=min(LAST_LR, self.options.lr),
        )
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=plan.lr,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=self.options.weight_decay,
        )
        objective = ClassificationObjective(flip=self.options.flip, padding=padding)
        return Trainer(self.network, objective, plan, optimizer)

    def augment(self, images: Tensor, numbers: Sequence[int], epoch: int) -> Tensor:
        """The images themselves: the objective flips and shifts them, whatever the epoch."""
        return images

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """The share of validation images that are classified wrong; NaN where logits are none."""
        values: dict[str, float] = {}
        for name, images in self.measured.items():
            batches = whole_batches(images, self.options)
            right, loss = accuracy(network, images, batches, self.names)
            self.accuracies[name] = right
            values |= {f"{name}_accuracy": right, f"{name}_loss": loss}
        if logs:
            logs.measured(epoch, values)
        wrong = 1 - self.accuracies["validation"]
        return wrong if math.isfinite(values["validation_loss"]) else math.nan

    def findings(self) -> Mapping[str, Any]:
        """The accuracies of the last validation."""
        return {"accuracy": dict(self.accuracies)}


def statistics(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all images and pixels, shapes (C,)."""
    total = torch.zeros(2, images.shape[0], dtype=torch.float64)
    order = [
        list(range(k, min(k + STATISTICS_BATCH, len(images))))
        for k in range(0, len(images), STATISTICS_BATCH)
    ]
    for batch in image_batches(images, order, num_workers=0):
        pixels = batch.double().transpose(0, 1).flatten(1)
        total += torch.stack([pixels.sum(1), pixels.square().sum(1)])
    count = len(images) * torch.tensor(images.shape[1:]).prod()
    mean, square = total / count
    return mean.float(), (square - mean.square()).sqrt().clamp(min=1e-6).float()
