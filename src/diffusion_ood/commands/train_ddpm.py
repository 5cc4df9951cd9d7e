"""Train a denoising diffusion model on in-distribution images.

Reads two split CSVs; writes checkpoints, config.json and logs to output_dir/model_name.
Run the same command again to go on from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood import cli
from diffusion_ood.commands.training_run import TrainingRun, open_data, whole_batches
from diffusion_ood.data.labels import class_names, class_numbers
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import augmentation
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.unet import add_dropout
from diffusion_ood.options import (
    ComputeOptions,
    DiffusionOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
    TrackOptions,
    TrainOptions,
)
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Plan, Trainer
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories
from diffusion_ood.trajectories.grid import TimeGrid
from diffusion_ood.trajectories.noise import image_noise

GROUPS = (
    RunOptions,
    TrainOptions,
    ImageOptions,
    DiffusionOptions,
    LoadingOptions,
    ComputeOptions,
    TrackOptions,
)

NUM_SAMPLES = 16  # in the grid that is logged
SAMPLE_STEPS = 50


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    options = line[TrainOptions]
    if "label_dropout" in line.given and not line[DiffusionOptions].num_classes:
        raise UserError("--label_dropout: means nothing without --num_classes; give both")
    with distributed.process_group(line[ComputeOptions].device) as device:
        training, validation = open_data(line, options)
        subject = _DiffusionSubject(line, device, training, validation)
        run = TrainingRun(line, GROUPS, options, device, training, subject)
        run.train(options.ddpm_checkpoint_epoch)


class _DiffusionSubject:
    """A diffusion model in training."""

    groups: Sequence[type] = (ImageOptions, DiffusionOptions)

    def __init__(
        self,
        line: cli.CommandLine,
        device: torch.device,
        training: ImageSet,
        validation: ImageSet,
    ) -> None:
        self.line = line
        self.device = device
        self.options = line[TrainOptions]
        self.validation = validation
        self.names: tuple[str, ...] = ()
        self.labels: Tensor | None = None
        if num_classes := line[DiffusionOptions].num_classes:
            self.names = class_names(training.split, num_classes)
            self.labels = class_numbers(training.split, self.names)
            class_numbers(validation.split, self.names)  # says now what is wrong there
        torch.manual_seed(self.options.seed)
        self.model = Diffusion(line[DiffusionOptions], training.shape)
        self.identity: Mapping[str, Any] = {
            "image_shape": tuple(training.shape),
            "classes": self.names,
        }
        levels = self.model.schedule.num_timesteps
        max_t = self.options.max_train_t or levels
        if max_t > levels:
            raise UserError(f"--max_train_t: found {max_t}, expected at most {levels}")
        self.objective = DiffusionObjective(
            self.model,
            max_t,
            label_dropout=self.options.label_dropout,
            antithetic=self.options.antithetic_t,
            flip=self.options.flip,
        )
        self.network = prepare(self.model.network, device)
        add_dropout(self.network, self.options.res_dropout)
        self._augmented: tuple[int, Callable[[Tensor, Sequence[int]], Tensor]] | None = None

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """Adam on the diffusion loss."""
        plan = Plan(
            lr=self.options.lr,
            lr_schedule=self.options.lr_schedule,
            total_steps=self.options.n_epochs * steps_per_epoch,
            ema_decay=self.options.ema_decay,
            precision=self.line[ComputeOptions].precision,
            seed=self.options.seed,
            warmup_steps=self.options.warmup_steps,
            grad_clip=self.options.grad_clip,
        )
        return Trainer(self.network, self.objective, plan)

    def augment(self, images: Tensor, numbers: Sequence[int], epoch: int) -> Tensor:
        """Small movements of some of the images, where they are asked for."""
        if not self.options.augmentation:
            return images
        if self._augmented is None or self._augmented[0] != epoch:
            moves = augmentation(self.model.image_shape, seed=self.options.seed, epoch=epoch)
            self._augmented = epoch, moves
        return self._augmented[1](images, numbers)

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """The validation loss; the logs get samples too."""
        batches = whole_batches(self.validation, self.options)
        loss = self.objective.validation_loss(
            network, self.validation, batches, self.options.seed, self.names
        )
        if logs:
            logs.validation(epoch, loss, self._samples(network))
        return loss

    def findings(self) -> Mapping[str, Any]:
        """Nothing beside the loss."""
        return {}

    @torch.inference_mode()
    def _samples(self, network: nn.Module) -> Tensor:
        """A few images drawn from the model, of all classes in turn: `(B, C, *S)` in [0, 1]."""
        schedule, shape = self.model.schedule, self.model.image_shape
        grid = TimeGrid(schedule.num_timesteps, SAMPLE_STEPS)
        start = grid.starts[-1]
        times = (*grid.times(start), CLEAN)
        trajectories = [
            Trajectory(
                row,
                times,
                partial(image_noise, shape, self.options.seed, f"sample {row}", start),
                row % len(self.names) if self.names else None,
            )
            for row in range(NUM_SAMPLES)
        ]
        samples = torch.empty(NUM_SAMPLES, *shape)
        for rows, x in run_trajectories(
            self.model.denoiser(network), schedule, SAMPLERS["ddim"], trajectories, self.device
        ):
            samples[rows] = self.model.codec.decode(x).clamp(0, 1).cpu()
        return samples
