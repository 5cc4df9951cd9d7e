"""The training task of a diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.data.labels import class_names, class_numbers
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import augmentation
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.unet import add_dropout
from diffusion_ood.options import DiffusionOptions, TrainOptions
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime.device import prepare
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.settings import TrainingSettings
from diffusion_ood.training.task import index_batches
from diffusion_ood.training.trainer import Plan, Trainer
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories
from diffusion_ood.trajectories.grid import TimeGrid
from diffusion_ood.trajectories.noise import image_noise

NUM_SAMPLES = 16  # in the grid of each validation
SAMPLE_STEPS = 50


class DiffusionTask:
    """Training of a diffusion model by its denoising loss.

    Args:
        settings: all options.
        device: where to train.
        training: the training images.
        validation: the validation images.

    Raises:
        UserError: labels that do not fit `num_classes`, or a `max_train_t` above the last level.
    """

    def __init__(
        self,
        settings: TrainingSettings[TrainOptions, DiffusionOptions],
        device: torch.device,
        training: ImageSet,
        validation: ImageSet,
    ) -> None:
        self.fit = settings.fit
        self.precision = settings.compute.precision
        self.validation = validation
        self.names: tuple[str, ...] = ()
        self.labels: Tensor | None = None
        if num_classes := settings.model.num_classes:
            self.names = class_names(training.split, num_classes)
            self.labels = class_numbers(training.split, self.names)
            class_numbers(validation.split, self.names)  # raises before the training starts
        torch.manual_seed(self.fit.seed)
        self.model = Diffusion(settings.model, training.shape)
        self.model_options: Sequence[object] = (settings.image, settings.model)
        self.metadata: Mapping[str, Any] = {
            "image_shape": tuple(training.shape),
            "classes": self.names,
        }
        levels = self.model.schedule.num_timesteps
        max_t = self.fit.max_train_t or levels
        if max_t > levels:
            raise UserError(f"`max_train_t`: found {max_t}, expected at most {levels}")
        self.objective = DiffusionObjective(
            self.model,
            max_t,
            label_dropout=self.fit.label_dropout,
            antithetic=self.fit.antithetic_t,
            flip=self.fit.flip,
        )
        self.network = prepare(self.model.network, device)
        add_dropout(self.network, self.fit.res_dropout)
        self._augmented: tuple[int, Callable[[Tensor, Sequence[int]], Tensor]] | None = None

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """Adam on the diffusion loss."""
        plan = Plan(
            lr=self.fit.lr,
            lr_schedule=self.fit.lr_schedule,
            total_steps=self.fit.n_epochs * steps_per_epoch,
            ema_decay=self.fit.ema_decay,
            precision=self.precision,
            seed=self.fit.seed,
            warmup_steps=self.fit.warmup_steps,
            grad_clip=self.fit.grad_clip,
        )
        return Trainer(self.network, self.objective, plan)

    def augment(self, images: Tensor, indices: Sequence[int], epoch: int) -> Tensor:
        """The images, with small random movements if `augmentation` is on."""
        if not self.fit.augmentation:
            return images
        if self._augmented is None or self._augmented[0] != epoch:
            moves = augmentation(self.model.image_shape, seed=self.fit.seed, epoch=epoch)
            self._augmented = epoch, moves
        return self._augmented[1](images, indices)

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """The validation loss; samples are logged too."""
        batches = index_batches(
            len(self.validation), self.fit.batch_size, only_first=self.fit.quick_test
        )
        loss = self.objective.validation_loss(
            network, self.validation, batches, self.fit.seed, self.names
        )
        if logs:
            logs.validation(epoch, loss, draw_samples(self.model, network, self.fit.seed))
        return loss

    def metrics(self) -> Mapping[str, Any]:
        """Empty: the checkpoint stores nothing but the loss."""
        return {}


@torch.inference_mode()
def draw_samples(model: Diffusion, network: nn.Module, seed: int) -> Tensor:
    """Samples of the model by DDIM, of all classes in turn: `(NUM_SAMPLES, C, *S)` in [0, 1].

    Args:
        model: the diffusion model.
        network: evaluated in place of the model's own.
        seed: of the noise.
    """
    shape, classes = model.image_shape, model.options.num_classes
    grid = TimeGrid(model.schedule.num_timesteps, SAMPLE_STEPS)
    start = grid.starts[-1]
    times = (*grid.times(start), CLEAN)
    trajectories = [
        Trajectory(
            row,
            times,
            partial(image_noise, shape, seed, f"sample {row}", start),
            row % classes if classes else None,
        )
        for row in range(NUM_SAMPLES)
    ]
    samples = torch.empty(NUM_SAMPLES, *shape)
    device = next(network.parameters()).device
    for step in run_trajectories(
        model.denoiser(network), model.schedule, SAMPLERS["ddim"], trajectories, device
    ):
        rows, x = step.ends()
        samples[rows] = model.codec.decode(x).clamp(0, 1).cpu()
    return samples
