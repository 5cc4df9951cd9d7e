"""The training task of a diffusion model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.transforms import augmentation
from diffusion_ood.diffusion.codec import Codec
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.unet import add_dropout
from diffusion_ood.options import DiffusionOptions, TrainOptions
from diffusion_ood.report.logs import Tracker
from diffusion_ood.runtime.device import prepare
from diffusion_ood.sampling.samples import draw
from diffusion_ood.training.latents import encoded
from diffusion_ood.training.objective import LEVELS_PER_IMAGE, DiffusionObjective
from diffusion_ood.training.task import (
    FORWARD,
    TrainingSettings,
    TrainingTask,
    log_values,
    sheet,
)
from diffusion_ood.training.trainer import Plan, Trainer
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.grid import TimeGrid

NUM_SAMPLES = 16  # in the grid of each validation
SAMPLE_STEPS = 50


class DiffusionTask(TrainingTask[TrainOptions, DiffusionOptions]):
    """Training of a diffusion model by its denoising loss.

    Args:
        settings, device, training, validation: as of every task.
        autoencoder: whose latents are diffused, in place of the images.

    Raises:
        UserError: labels that do not fit `num_classes`, or a `max_train_t` above the last level.
    """

    def __init__(
        self,
        settings: TrainingSettings[TrainOptions, DiffusionOptions],
        device: torch.device,
        training: ImageSet,
        validation: ImageSet,
        autoencoder: Autoencoder | None = None,
    ) -> None:
        super().__init__(settings, training, {"validation": validation})
        self.metadata["autoencoder"] = autoencoder.digest if autoencoder else ""
        codec, encode = self._encode(autoencoder, device) if autoencoder else (None, None)
        self.model = Diffusion(settings.model, training.shape, settings.image, codec=codec)
        levels = self.model.schedule.num_timesteps
        max_t = self.fit.max_train_t or levels
        if max_t > levels:
            raise UserError(f"`max_train_t`: found {max_t}, expected at most {levels}")
        self.objective = DiffusionObjective(
            self.model,
            max_t,
            encode=encode,
            label_dropout=self.fit.label_dropout,
            antithetic=self.fit.antithetic_t,
            flip=self.fit.flip,
        )
        self.network = prepare(self.model.network, device)
        add_dropout(self.network, self.fit.res_dropout)

    def _encode(
        self, autoencoder: Autoencoder, device: torch.device
    ) -> tuple[Codec, Callable[[Tensor], Tensor]]:
        """Put latents in the images' place; the codec, and what makes x of latents."""
        sets, loading = [self.training, self.evaluated["validation"]], self.settings.loading
        run_dir, model = self.settings.run.run_dir, self.settings.model
        codec, (self.training, validation) = encoded(
            sets, autoencoder, model, run_dir, loading.num_workers, device
        )
        self.evaluated = {"validation": validation}
        self.parts["codec"] = codec.content()
        return codec, codec.of_latents

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """Adam on the diffusion loss."""
        fit = self.fit
        plan = Plan(
            lr=fit.lr,
            total_steps=fit.n_epochs * steps_per_epoch,
            seed=fit.seed,
            precision=self.settings.compute.precision,
            lr_schedule=fit.lr_schedule,
            warmup_steps=fit.warmup_steps,
            grad_clip=fit.grad_clip,
            ema_decay=fit.ema_decay,
        )
        return Trainer(self.network, self.objective.loss, plan)

    def augment(self, images: Tensor, indices: Sequence[int], epoch: int) -> Tensor:
        """The images, with small random movements if `augmentation` is on."""
        if not self.fit.augmentation:
            return images
        moves = augmentation(self.model.image_shape, seed=self.fit.seed, epoch=epoch)
        return moves(images, indices)

    @property
    def validation_images(self) -> float:
        """Losses at several times, and samples, see `TrainingTask`."""
        samples = NUM_SAMPLES * SAMPLE_STEPS * FORWARD
        return LEVELS_PER_IMAGE * super().validation_images + samples

    def validate(self, network: nn.Module, epoch: int, tracker: Tracker | None) -> float:
        """The validation loss; samples are logged too."""
        images = self.evaluated["validation"]
        loss = self.objective.validation_loss(
            network, images, self.batches(images), self.fit.seed, self.names
        )
        if tracker:
            tracker.image("val", "samples", self._samples(network), epoch)
            log_values(tracker, "val", epoch, loss=loss)
        return loss

    def _samples(self, network: nn.Module) -> NDArray[np.uint8]:
        """A picture of samples by DDIM, of all classes in turn; of volumes three planes."""
        model = copy.copy(self.model)
        model.network = network
        device = next(network.parameters()).device
        evaluator = Evaluator(model, device, compile="off", max_batch=NUM_SAMPLES)
        grid = TimeGrid(model.schedule.num_timesteps, SAMPLE_STEPS)
        times = (*grid.times(grid.starts[-1]), CLEAN)
        samples = torch.empty(NUM_SAMPLES, *model.image_shape)
        numbers, classes = range(NUM_SAMPLES), range(len(self.names))
        for rows, images in draw(evaluator, numbers, times, seed=self.fit.seed, classes=classes):
            samples[rows] = images.cpu()
        return sheet(samples, 4)
