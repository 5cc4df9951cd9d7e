"""A training run: data, epochs, validation, checkpoints and logs, whatever the task is."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood.data.intensity import differences, doubts
from diffusion_ood.data.loaders import ImageSet, epoch_order, open_images
from diffusion_ood.data.on_device import training_batches
from diffusion_ood.data.places import Place
from diffusion_ood.data.skipped import report_skipped
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.model import versions
from diffusion_ood.options import FitOptions
from diffusion_ood.report.logs import Tracker, open_tracker
from diffusion_ood.report.provenance import training_options
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.compiling import CompileDecision
from diffusion_ood.runtime.cost import expected
from diffusion_ood.runtime.device import autocast, describe
from diffusion_ood.runtime.files import write_json
from diffusion_ood.runtime.lock import locked
from diffusion_ood.runtime.signals import GracefulStop
from diffusion_ood.runtime.words import counted, duration
from diffusion_ood.training.captured import LEAST_STEPS, graph_on
from diffusion_ood.training.checkpoints import Checkpoints, Progress
from diffusion_ood.training.task import TrainingSettings, TrainingTask, log_values
from diffusion_ood.training.trainer import Batch

CHECK_EVERY = 100  # steps between checks of the loss, each of which waits for the device
SETS = ("training", "validation", "test")


def open_data(splits: Sequence[Split], settings: TrainingSettings[Any, Any]) -> list[ImageSet]:
    """The images of the training, validation and perhaps test split, all of one size.

    The first process packs them while the others wait.

    Raises:
        UserError: an image that cannot be read, or images of different sizes.
    """
    is_main = distributed.is_main()
    if not is_main:
        distributed.barrier()
    sets = [open_images(s, settings.image, settings.loading, progress=is_main) for s in splits]
    if is_main:
        distributed.barrier()
    for images, name in zip(sets, SETS, strict=False):
        report_skipped(images, name, settings.run.run_dir)
        if settings.image.slices and not any(Place.of(i).plane for i in images.split.images):
            raise UserError(
                f"`slices`: found no volume in {images.split.path}, expected NIfTI files or DICOM "
                "series, which `get_datasets.py` lists with `spatial_dimension` 3"
            )
        if images.shape != sets[0].shape:
            raise UserError(
                f"{images.split.path}: found images of {images.shape}, expected {sets[0].shape} "
                f"as in {splits[0].path}; give `image_size`"
            )
        for doubt in doubts(f"the {name} set", images.intensity):
            distributed.print_once(f"warning: {doubt}")
        for doubt in differences(
            f"the {name} set", images.intensity, "training", sets[0].intensity
        ):
            distributed.print_once(f"warning: {doubt}")
        trained = set(sets[0].digests)
        shared = sum(digest in trained for digest in images.digests)
        if shared and name != "training":
            distributed.print_once(
                f"warning: {counted(shared, 'image')} of {images.split.path} known from training: "
                "copies of training images look more usual than they are"
            )
    return sets


class TrainingRun:
    """A training run in its run directory."""

    def __init__(self, task: TrainingTask[Any, Any]) -> None:
        self.task = task
        self.settings = task.settings
        self.fit: FitOptions = task.fit
        self.run_dir = task.settings.run.run_dir
        self.steps_per_epoch = len(self._order(0))
        self.trainer = task.trainer(self.steps_per_epoch)
        self.checkpoints = Checkpoints(task, self.trainer)
        self.progress = Progress()
        self.tracker: Tracker | None = None  # of the main process

    def train(self, resume_epoch: int | None = None) -> None:
        """Train to the last epoch, from the last checkpoint or from that of an earlier epoch.

        Raises:
            UserError: another job trains in the run directory, a checkpoint that does not fit, or
                a loss or weight that is not finite.
        """
        with locked(self.run_dir, ".*.tmp"):
            self.progress = self.checkpoints.resume(resume_epoch)
            if self.progress.epoch >= self.fit.n_epochs:
                distributed.print_once(
                    f"epoch {self.progress.epoch} is done; to train longer, raise n_epochs"
                )
                return
            if distributed.is_main():
                self._announce()
            self._train()
        distributed.print_once(f"checkpoints are in {self.run_dir}")

    def _announce(self) -> None:
        content = {**self.settings.config(), "versions": versions()}
        write_json(self.run_dir / "config.json", content)
        images, shape = self.task.training, self.task.metadata["image_shape"]
        parameters = sum(p.numel() for p in self.task.network.parameters())
        world, size = distributed.world_size(), self.fit.batch_size
        most = "at most " if size % world else ""
        print(
            f"{counted(len(images), 'training image')} of {' × '.join(map(str, shape))}, "
            f"{parameters:,} parameters\n"
            f"on {world} × {describe(self.trainer.device)}, {counted(size, 'image')} a step, "
            f"{most}{-(-size // world)} of them in each process",
            flush=True,
        )

    def _train(self) -> None:
        compute = self.settings.compute
        decision = CompileDecision(compute.compile, self.trainer.device, compute.precision)
        if not decision.is_open:
            self._accelerate(decision)
        done = self.progress.epoch * self.steps_per_epoch + len(self.progress.losses)
        if distributed.is_main():
            run, track = self.settings.run, self.settings.track
            self.tracker = open_tracker(run, track, "train", goes_on=done > 0)
            self.tracker.compare(training_options(self.settings.config()), {})
            self.tracker.flush()
        with tqdm(
            total=self.trainer.plan.total_steps,
            initial=done,
            unit="step",
            disable=None if self.tracker else True,  # None: hidden where stderr is no terminal
            dynamic_ncols=True,
        ) as bar:
            while self.progress.epoch < self.fit.n_epochs:
                self._one_epoch(bar, decision)
        if self.tracker:
            self.tracker.close()

    def _accelerate(self, decision: CompileDecision) -> None:
        """Compile as decided, and make one graph of every step where the device has graphs."""
        if decision.compile_now:
            self.trainer.compile()
        repaid = self.trainer.plan.total_steps - self.trainer.step > LEAST_STEPS
        if self.settings.compute.compile != "off" and repaid:
            graph = graph_on(self.trainer.device)
            if graph is not None and self.trainer.capture(graph):
                distributed.print_once("each step becomes one graph")

    @cached_property
    def _loaded(self) -> Callable[[Sequence[list[int]]], Iterator[Tensor]]:
        """What yields the images of batches; on a GPU it holds them, from the first call on."""
        device, workers = self.trainer.device, self.settings.loading.num_workers
        return training_batches(self.task.training, device, workers)

    def _order(self, epoch: int) -> list[list[int]]:
        """The global batches of an epoch, without an incomplete last one."""
        n, size = len(self.task.training), self.fit.batch_size
        batches = epoch_order(n, size, seed=self.fit.seed, epoch=epoch, drop_last=n >= size)
        return batches[:1] if self.fit.quick_test else batches

    def _one_epoch(self, bar: tqdm[NoReturn], decision: CompileDecision) -> None:
        """Train for the rest of an epoch, validate when it is due, log and save."""
        validates = (self.progress.epoch + 1) % self.fit.eval_freq == 0
        validates |= self.progress.epoch + 1 == self.fit.n_epochs
        with GracefulStop() as stop:
            rate = self._steps(bar, decision, stop)
            losses = self.checkpoints.finite_losses(self.progress)
            mean = torch.stack(losses).mean().item()
            if validates:
                self.checkpoints.save(self.progress)  # a crash in validation loses no step
            else:
                self._end_epoch(mean, rate)
                if stop.requested:  # after the last step; it takes effect at the end of the block
                    self._announce_stop()
        if validates:
            self._end_epoch(mean, rate, self._validate())

    def _steps(self, bar: tqdm[NoReturn], decision: CompileDecision, stop: GracefulStop) -> float:
        """Take the remaining steps of the epoch; returns images per second."""
        losses = self.progress.losses
        order = self._order(self.progress.epoch)[len(losses) :]
        pause_s = 60 * self.fit.save_every_minutes or math.inf
        begin = saved = time.perf_counter()
        for loss in self.trainer.epoch(self._batches(order)):
            losses.append(loss)
            bar.update()
            left = self.trainer.plan.total_steps - self.trainer.step
            sentence = decision.after_step(left)
            if decision.timed_now and (cost := self._cost(left, decision.seconds_a_step)):
                distributed.print_once(cost)
            if sentence:
                distributed.print_once(f"compile {sentence}")
                self._accelerate(decision)
            is_due = time.perf_counter() - saved >= pause_s
            saved = time.perf_counter() if is_due else saved
            stopping, saving = distributed.any_rank(stop.requested, is_due)
            if stopping or saving:
                self.checkpoints.save(self.progress)
            elif len(losses) % CHECK_EVERY == 0:
                self.checkpoints.finite_losses(self.progress)
            if stopping:
                self._announce_stop()
                stop.reraise()
        return sum(map(len, order)) / (time.perf_counter() - begin)

    def _cost(self, steps: int, seconds_a_step: float) -> str:
        """How long so many steps will take, with the validations among them."""
        epochs = range(self.progress.epoch + 1, self.fit.n_epochs + 1)
        validations = sum(e % self.fit.eval_freq == 0 or e == self.fit.n_epochs for e in epochs)
        validating = validations * self.task.validation_images / self.fit.batch_size
        work = f"{counted(steps, 'step')} of {duration(seconds_a_step)}"
        work += f" and {counted(validations, 'validation')}"
        return expected((steps + validating) * seconds_a_step, self.trainer.device, work)

    def _announce_stop(self) -> None:
        distributed.print_once(
            f"stopped after {self.progress}, which is saved; the same command resumes from it"
        )

    def _end_epoch(
        self, loss: float, images_per_second: float, validation: float | None = None
    ) -> None:
        """Save and log an epoch by its mean training loss and, after a validation, its loss."""
        epoch, least, shown = self.progress.epoch + 1, self.progress.best_loss, ""
        if validation is not None:
            if not math.isfinite(validation):
                self.checkpoints.rollback()
                raise UserError(
                    f"the validation loss became {validation} in epoch {epoch}; the checkpoints in "
                    f"{self.run_dir} are from before that, try a smaller `lr`"
                )
            least = min(least, validation)
            shown = f"  validation {validation:.5f}"
        best = least < self.progress.best_loss
        self.progress = Progress(epoch, best_loss=least)
        self.checkpoints.save(self.progress, best=best)
        if self.tracker:
            values = {"loss": loss, "lr": self.trainer.lr, "images_per_second": images_per_second}
            log_values(self.tracker, "train", epoch, **values)
            tqdm.write(
                f"epoch {epoch}/{self.fit.n_epochs}  loss {loss:.5f}{shown}"
                f"{' (best)' if best else ''}  {images_per_second:.0f} images/s"
            )

    def _batches(self, order: list[list[int]]) -> Iterator[Batch]:
        """This process's images of each global batch."""
        shards, labels = [distributed.shard(batch) for batch in order], self.task.labels
        for batch, shard, images in zip(order, shards, self._loaded(shards), strict=True):
            augmented = self.task.augment(images, shard, self.progress.epoch)
            yield Batch(augmented, len(batch), None if labels is None else labels[shard])

    def _validate(self) -> float:
        """The validation loss of the weights to evaluate."""
        network = copy.deepcopy(self.task.network).eval()
        network.load_state_dict(self.trainer.evaluation_weights())
        with autocast(self.trainer.device, self.settings.compute.precision):
            return self.task.validate(network, self.progress.epoch + 1, self.tracker)
