"""The training task of the classifier, its loss and its accuracy, by the recipe of OpenOOD."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.data.transforms import mirrored
from diffusion_ood.errors import UserError
from diffusion_ood.networks.resnet import Classifier
from diffusion_ood.options import ClassifierOptions, ClassifierTrainOptions, ImageOptions
from diffusion_ood.options.fields import refuse_outside
from diffusion_ood.report.logs import Tracker
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.training.task import TrainingSettings, TrainingTask, in_batches, log_values
from diffusion_ood.training.trainer import Batch, Network, Plan, Trainer

LAST_LR = 1e-6
MOMENTUM = 0.9
PADDING_SHARE = 8  # of the shortest side: 4 pixels of 32
STATISTICS_BATCH = 512


class ClassifierTask(TrainingTask[ClassifierTrainOptions, ClassifierOptions]):
    """Training of a classifier; the accuracies of the last validation are in `accuracies`.

    They are measured on the images of `validation`, and of `test` if there are any.

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
        super().__init__(settings, training, evaluated)
        self.accuracies: dict[str, float] = {}
        self.metrics = {"accuracy": self.accuracies}
        least = 2 * distributed.world_size()
        if min(self.fit.batch_size, len(training)) < least:
            raise UserError(
                f"`batch_size`: found {self.fit.batch_size} with {len(training)} training images, "
                f"expected at least {least} images a step, 2 in each process, which batch "
                "normalisation needs"
            )
        network = Classifier(settings.model, training.shape)
        network.mean, network.std = statistics(training)
        self.network = prepare(network, device)

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """SGD with Nesterov's momentum on the cross-entropy."""
        fit, side = self.fit, min(self.training.shape[1:])
        padding = side // PADDING_SHARE if fit.crop_padding is None else fit.crop_padding
        refuse_outside("crop_padding", padding, most=side)
        plan = Plan(
            lr=fit.lr,
            total_steps=fit.n_epochs * steps_per_epoch,
            seed=fit.seed,
            precision=self.settings.compute.precision,
            lr_schedule="cosine",
            lr_end=min(LAST_LR, fit.lr),
        )
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=plan.lr,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=fit.weight_decay,
        )
        of_images = self.settings.image
        loss = partial(classification_loss, options=of_images, flip=fit.flip, padding=padding)
        return Trainer(self.network, loss, plan, optimizer)

    def validate(self, network: nn.Module, epoch: int, tracker: Tracker | None) -> float:
        """The share of misclassified validation images; NaN if their logits are not finite."""
        values: dict[str, float] = {}
        for name, images in self.evaluated.items():
            right, loss = self._accuracy(network, images)
            self.accuracies[name] = right
            values |= {f"{name}_accuracy": right, f"{name}_loss": loss}
        log_values(tracker, "val", epoch, **values)
        wrong = 1 - self.accuracies["validation"]
        return wrong if math.isfinite(values["validation_loss"]) else math.nan

    @torch.inference_mode()
    def _accuracy(self, network: nn.Module, images: ImageSet) -> tuple[float, float]:
        """The accuracy, from 0 to 1, and the mean cross-entropy over all processes' images."""
        device = next(network.parameters()).device
        classes = class_numbers(images.split, self.names)
        total = torch.zeros(3, dtype=torch.float64)
        for batch in distributed.shard(self.batches(images)):
            logits, _ = network(images.batch(batch).to(device))
            logits, expected = logits.double().cpu(), classes[batch]
            right = (logits.argmax(1) == expected).sum().item()
            loss = functional.cross_entropy(logits, expected, reduction="sum").item()
            total += torch.tensor([right, loss, len(batch)], dtype=torch.float64)
        right, loss, count = distributed.sum_over_processes(total.to(device).float()).tolist()
        return right / count, loss / count


def statistics(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all images and pixels, shapes (C,)."""
    total = torch.zeros(2, images.shape[0], dtype=torch.float64)
    order = in_batches(len(images), STATISTICS_BATCH)
    for batch in image_batches(images, order, num_workers=0):
        pixels = batch.double().transpose(0, 1).flatten(1)
        total += torch.stack([pixels.sum(1), pixels.square().sum(1)])
    count = len(images) * torch.tensor(images.shape[1:]).prod()
    mean, square = total / count
    return mean.float(), (square - mean.square()).sqrt().clamp(min=1e-6).float()


def classification_loss(
    network: Network, batch: Batch, seed: int, *, options: ImageOptions, flip: bool, padding: int
) -> Tensor:
    """Cross-entropy (b,) of this process's images, randomly mirrored and shifted.

    Args:
        network: maps `(b, C, *S)` in [0, 1] to logits `(b, K)` and features.
        batch: its images on the device, with labels.
        seed: of this step.
        options: how files become images, which says what is left and right of volumes.
        flip: mirror half of the images left to right.
        padding: width of the black border from which the image is cropped at random, in pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    images, shape = batch.images, (batch.n, batch.images.ndim - 2)
    flips = torch.rand(batch.n, generator=generator)[batch.shard] < 0.5
    shifts = torch.randint(2 * padding + 1, shape, generator=generator)[batch.shard]
    if flip:
        images = mirrored(images, flips, options)
    logits, _ = network(shifted(images, shifts, padding))
    assert batch.labels is not None, "a classifier needs labels"
    labels = to_device(batch.labels, images.device)
    return functional.cross_entropy(logits.to(images.dtype), labels, reduction="none")


def shifted(images: Tensor, shifts: Tensor, padding: int) -> Tensor:
    """Images `(B, C, *S)` padded with 0 on every side and cropped at their shifts.

    Args:
        images: shape `(B, C, *S)`.
        shifts: of each image and axis, 0 … 2·padding, shape (B, len(S)); `padding` is the centre.
        padding: pixels on each side.
    """
    windows = functional.pad(images, [padding] * 2 * (images.ndim - 2))
    for axis, side in enumerate(images.shape[2:], start=2):
        places = to_device(shifts[:, axis - 2, None] + torch.arange(side), images.device)
        index = places.view(len(images), *[1] * (axis - 1), side, *[1] * (images.ndim - axis - 1))
        shape = *windows.shape[:axis], side, *windows.shape[axis + 1 :]
        windows = windows.gather(axis, index.expand(shape))
    return windows
