"""One run of training, whatever is trained: data, epochs, checkpoints, going on and logs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands.checkpoints import Checkpoints, Progress
from diffusion_ood.commands.skipping import report_skipped
from diffusion_ood.commands.subject import Subject
from diffusion_ood.data.loaders import ImageSet, epoch_order, image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.model import versions
from diffusion_ood.options import (
    ComputeOptions,
    FitOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
    TrackOptions,
)
from diffusion_ood.options.stored import to_dict
from diffusion_ood.report.logs import open_training_tracker
from diffusion_ood.runtime import distributed, run_directory
from diffusion_ood.runtime.compiling import CompileDecision
from diffusion_ood.runtime.device import autocast, describe
from diffusion_ood.runtime.files import write_json
from diffusion_ood.runtime.lock import locked
from diffusion_ood.runtime.signals import Deferred
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.trainer import Batch

CHECK_EVERY = 100  # steps between looks at the loss, for which a device has to be waited for


def open_data(line: cli.CommandLine, options: FitOptions, *others: Path) -> list[ImageSet]:
    """Training, validation and other images, all of one size.

    The first process packs them, the others wait for it.
    """
    paths = (options.training_ids, options.validation_ids, *others)
    names = ("training", "validation", "test")
    sets: list[ImageSet] = []
    for mine in (distributed.is_main(), not distributed.is_main()):
        if mine:
            sets = [_open(line, path) for path in paths]
        distributed.barrier()
    for images, path, name in zip(sets, paths, names, strict=False):
        report_skipped(images, name, line[RunOptions].run_dir)
        if images.shape != sets[0].shape:
            raise UserError(
                f"{path}: found images of {images.shape}, expected {sets[0].shape} "
                f"like those of {paths[0]}; give --image_size"
            )
    return sets


def _open(line: cli.CommandLine, path: Path) -> ImageSet:
    return open_images(
        read_split(path, flips=False),
        line[ImageOptions],
        line[LoadingOptions],
        progress=distributed.is_main(),
    )


def whole_batches(images: ImageSet, options: FitOptions) -> list[list[int]]:
    """The indices of images to validate on, in batches; one batch of a quick test."""
    size = options.batch_size
    starts = range(0, 1 if options.quick_test else len(images), size)
    return [list(range(k, min(k + size, len(images)))) for k in starts]


class TrainingRun:
    """One run of training in its run directory.

    Args:
        line: the command line.
        groups: its options classes.
        options: those of the training.
        device: where to train.
        training: the images to learn from.
        subject: what is trained.
    """

    def __init__(
        self,
        line: cli.CommandLine,
        groups: Sequence[type],
        options: FitOptions,
        device: torch.device,
        training: ImageSet,
        subject: Subject,
    ) -> None:
        self.line = line
        self.groups = groups
        self.options = options
        self.device = device
        self.training = training
        self.subject = subject
        self.run_dir = line[RunOptions].run_dir
        self.steps_per_epoch = len(self._order(0))
        self.trainer = subject.trainer(self.steps_per_epoch)
        self.checkpoints = Checkpoints(line, options, training.split, subject, self.trainer)
        self.progress = Progress()

    def train(self, resume_epoch: int | None = None) -> None:
        """Train from where the last checkpoint stands, or an earlier one, to the last epoch.

        Raises:
            UserError: another job trains in the run directory, among others.
        """
        if resume_epoch is not None:
            run_directory.require_checkpoint(
                run_directory.epoch_checkpoint(self.run_dir, resume_epoch)
            )
        with locked(self.run_dir, leftovers=".*.tmp"):
            self.progress = self.checkpoints.resume(resume_epoch)
            if self.progress.epoch >= self.options.n_epochs:
                distributed.print_once(
                    f"{self.progress.epoch} epochs are done; for more, raise --n_epochs"
                )
                return
            self._announce()
            self._train()
        distributed.print_once(f"checkpoints are in {self.run_dir}")

    def _train(self) -> None:
        compute = self.line[ComputeOptions]
        decision = CompileDecision(compute.compile, self.device, compute.precision)
        if decision.at_once:
            self.trainer.compile()
        done = self.progress.epoch * self.steps_per_epoch + len(self.progress.losses)
        logs = self._open_logs(goes_on=done > 0) if distributed.is_main() else None
        with tqdm(
            total=self.trainer.plan.total_steps,
            initial=done,
            unit="step",
            disable=None if logs else True,  # None: where nobody watches, too
            dynamic_ncols=True,
        ) as bar:
            while self.progress.epoch < self.options.n_epochs:
                self._one_epoch(bar, decision, logs)
        if logs:
            logs.close()

    def _open_logs(self, *, goes_on: bool) -> TrainingLogs:
        run, options = self.line[RunOptions], self.line[TrackOptions]
        logs = TrainingLogs(open_training_tracker(run, options, goes_on=goes_on))
        logs.begin(self._config())
        return logs

    def _config(self) -> dict[str, dict[str, Any]]:
        return {cls.__name__: to_dict(self.line[cls]) for cls in self.groups}

    def _order(self, epoch: int) -> list[list[int]]:
        """The global batches of an epoch; an incomplete last one is left out."""
        n, size = len(self.training), self.options.batch_size
        batches = epoch_order(n, size, seed=self.options.seed, epoch=epoch, drop_last=n >= size)
        return batches[:1] if self.options.quick_test else batches

    def _announce(self) -> None:
        if not distributed.is_main():
            return
        content = {**self._config(), "versions": versions()}
        write_json(self.run_dir / "config.json", content)
        parameters = sum(p.numel() for p in self.subject.network.parameters())
        world, size = distributed.world_size(), self.options.batch_size
        most = "at most " if size % world else ""
        print(
            f"{len(self.training)} training images of "
            f"{' × '.join(map(str, self.training.shape))}, {parameters:,} parameters\n"
            f"on {world} × {describe(self.device)}, {size} images a step, "
            f"{most}{-(-size // world)} of them in each process",
            flush=True,
        )

    def _one_epoch(
        self, bar: tqdm[NoReturn], decision: CompileDecision, logs: TrainingLogs | None
    ) -> None:
        """Train, validate when it is time, log and save."""
        validates = (self.progress.epoch + 1) % self.options.eval_freq == 0
        validates |= self.progress.epoch + 1 == self.options.n_epochs
        with Deferred() as signals:
            rate = self._steps(bar, decision, signals)
            self.checkpoints.refuse_infinite(self.progress)
            mean = self.progress.mean_loss()
            if validates:
                self.checkpoints.save(self.progress)  # what ends the validation loses no step
            else:
                self._end_epoch(logs, mean, rate)
                if signals.asked:  # since the last step; it takes effect at the end of this block
                    self._say_stopped()
        if validates:
            self._end_epoch(logs, mean, rate, self._validate(logs))

    def _steps(self, bar: tqdm[NoReturn], decision: CompileDecision, signals: Deferred) -> float:
        """Take the steps that the epoch still lacks; images per second."""
        losses, due = self.progress.losses, Clock(60 * self.options.save_every_minutes)
        order = self._order(self.progress.epoch)[len(losses) :]
        begin = time.perf_counter()
        for loss in self.trainer.epoch(self._batches(order)):
            losses.append(loss)
            bar.update()
            sentence = decision.after_step(self.trainer.plan.total_steps - self.trainer.step)
            if sentence:
                distributed.print_once(f"compile {sentence}")
                if sentence.startswith("on"):
                    self.trainer.compile()
            stopping, saving = distributed.anywhere(signals.asked, due.rings())
            if stopping or saving:
                self.checkpoints.save(self.progress)
            elif len(losses) % CHECK_EVERY == 0:
                self.checkpoints.refuse_infinite(self.progress)
            if stopping:
                self._say_stopped()
                signals.deliver()
        return sum(map(len, order)) / (time.perf_counter() - begin)

    def _say_stopped(self) -> None:
        distributed.print_once(
            f"stopped after {self.progress}, which is saved; the same command goes on"
        )

    def _end_epoch(
        self,
        logs: TrainingLogs | None,
        loss: float,
        images_per_second: float,
        validation: float | None = None,
    ) -> None:
        """Save and log an epoch of so much training loss, and of validation loss if there was."""
        if validation is not None and not math.isfinite(validation):
            self.checkpoints.withdraw()
            raise UserError(
                f"the validation loss became {validation} in epoch {self.progress.epoch + 1}; the "
                f"checkpoints in {self.run_dir} are those before it, try a smaller --lr"
            )
        best = validation is not None and validation < self.progress.best_loss
        least = validation if best and validation is not None else self.progress.best_loss
        epoch = self.progress.epoch + 1
        self.checkpoints.save(Progress(epoch, best_loss=least), best=best)
        self.progress = Progress(epoch, best_loss=least)
        if logs:
            logs.training(epoch, loss, self.trainer.lr, images_per_second)
            shown = "" if validation is None else f"  validation {validation:.5f}"
            tqdm.write(
                f"epoch {epoch}/{self.options.n_epochs}  loss {loss:.5f}{shown}"
                f"{' (best)' if best else ''}  {images_per_second:.0f} images/s"
            )

    def _batches(self, order: list[list[int]]) -> Iterator[Batch]:
        """The size of each global batch, this process's images of it, and their labels."""
        mine = [distributed.share_of(batch) for batch in order]
        loaded = image_batches(self.training, mine, self.line[LoadingOptions].num_workers)
        for batch, share, images in zip(order, mine, loaded, strict=True):
            learnt = self.subject.augment(images, share, self.progress.epoch)
            if self.subject.labels is None:
                yield len(batch), learnt
            else:
                yield len(batch), learnt, self.subject.labels[share]

    def _validate(self, logs: TrainingLogs | None) -> float:
        """The validation loss of the weights that will be scored with."""
        network = copy.deepcopy(self.subject.network).eval()
        network.load_state_dict(self.trainer.evaluation_weights())
        with autocast(self.device, self.line[ComputeOptions].precision):
            return self.subject.validate(network, self.progress.epoch + 1, logs)


class Clock:
    """When to save: it rings every so many seconds; 0 is never."""

    def __init__(self, every_s: float) -> None:
        self._every = every_s
        self._last = time.monotonic()

    def rings(self) -> bool:
        """Whether the time has come since it last rang."""
        now = time.monotonic()
        if not self._every or now - self._last < self._every:
            return False
        self._last = now
        return True
