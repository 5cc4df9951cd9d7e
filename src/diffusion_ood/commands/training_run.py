"""One run of training, whatever is trained: data, epochs, checkpoints, going on and logs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands import run_files
from diffusion_ood.commands.skipping import report_skipped
from diffusion_ood.data.loaders import ImageSet, epoch_order, image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import (
    ComputeOptions,
    FitOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
)
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint
from diffusion_ood.runtime.compiling import CompileDecision
from diffusion_ood.runtime.device import autocast, describe
from diffusion_ood.runtime.files import write_json
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.trainer import Batch, Trainer


class Subject(Protocol):
    """What is trained, and all that is particular to it."""

    network: nn.Module
    """On its device; the trainer changes its weights."""

    labels: Tensor | None
    """The class of each training image (N,), for a network that learns classes."""

    groups: Sequence[type]
    """The options that its checkpoint holds."""

    identity: Mapping[str, Any]
    """What a checkpoint says of it beside the options, and a later run must agree with."""

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """Its trainer, at step 0."""

    def augment(self, images: Tensor, numbers: Sequence[int], epoch: int) -> Tensor:
        """A training batch `(b, C, *S)` of these numbers in the split, as this epoch learns it."""

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """What the best checkpoint has the least of, by a network of the averaged weights."""

    def findings(self) -> Mapping[str, Any]:
        """What validation found that the checkpoint is to hold."""


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
        self.epoch = 0
        self.best_loss = math.inf

    def train(self, resume_epoch: int | None = None) -> None:
        """Train from where the last checkpoint stands, or an earlier one, to the last epoch."""
        self._resume(resume_epoch)
        if self.epoch >= self.options.n_epochs:
            distributed.print_once(f"{self.epoch} epochs are done; for more, raise --n_epochs")
            return
        self._announce()
        compute = self.line[ComputeOptions]
        decision = CompileDecision(compute.compile, self.device, compute.precision)
        if decision.at_once:
            self.trainer.compile()
        logs = TrainingLogs(self.run_dir) if distributed.is_main() else None
        with tqdm(
            total=self.trainer.plan.total_steps,
            initial=self.epoch * self.steps_per_epoch,
            unit="step",
            disable=None if logs else True,  # None: where nobody watches, too
            dynamic_ncols=True,
        ) as bar:
            while self.epoch < self.options.n_epochs:
                self._one_epoch(bar, decision, logs)
        distributed.print_once(f"checkpoints are in {self.run_dir}")

    def _order(self, epoch: int) -> list[list[int]]:
        """The global batches of an epoch; an incomplete last one is left out."""
        n, size = len(self.training), self.options.batch_size
        batches = epoch_order(n, size, seed=self.options.seed, epoch=epoch, drop_last=n >= size)
        return batches[:1] if self.options.quick_test else batches

    def _resume(self, epoch: int | None) -> None:
        path = self.run_dir / run_files.LAST
        if epoch is not None:
            path = run_files.epoch_checkpoint(self.run_dir, epoch)
        elif not path.exists():
            return
        state = load_checkpoint(path)
        for cls in self.subject.groups:
            asked = run_files.plain(self.line[cls])
            stored = run_files.stored_options(cls, state, path)
            run_files.refuse_contradiction(asked, stored, asked, path)
        for name, value in self.subject.identity.items():
            if name in state and state[name] != value:
                raise UserError(
                    f"{path}: was trained with {name.replace('_', ' ')} {state[name]}, but the "
                    f"training images have {value}; use another --model_name"
                )
        try:
            self.trainer.load_state_dict(state["trainer"])
        except (KeyError, RuntimeError, ValueError) as error:
            # the two packages name some weights otherwise, and order them for the optimiser
            raise UserError(
                f"{path}: found weights of another network, trained with "
                f"{state['versions']}; go on with those packages, or use another --model_name"
            ) from error
        self.epoch, self.best_loss = state["epoch"], state["best_loss"]
        distributed.print_once(f"going on from {path} after epoch {self.epoch}")

    def _announce(self) -> None:
        if not distributed.is_main():
            return
        config = {cls.__name__: run_files.plain(self.line[cls]) for cls in self.groups}
        write_json(self.run_dir / "config.json", {**config, "versions": run_files.versions()})
        parameters = sum(p.numel() for p in self.subject.network.parameters())
        world, size = distributed.world_size(), self.options.batch_size
        print(
            f"{len(self.training)} training images of "
            f"{' × '.join(map(str, self.training.shape))}, {parameters:,} parameters\n"
            f"on {world} × {describe(self.device)}, {size} images a step, "
            f"{-(-size // world)} of them in each process",
            flush=True,
        )

    def _one_epoch(
        self, bar: tqdm[NoReturn], decision: CompileDecision, logs: TrainingLogs | None
    ) -> None:
        """Train, validate when it is time, log and save."""
        begin, order = time.perf_counter(), self._order(self.epoch)
        losses = []
        for loss in self.trainer.epoch(self._batches(order)):
            losses.append(loss)
            bar.update()
            sentence = decision.after_step(self.trainer.plan.total_steps - self.trainer.step)
            if sentence:
                distributed.print_once(f"compile {sentence}")
                if sentence.startswith("on"):
                    self.trainer.compile()
        mean = distributed.sum_over_processes(torch.stack(losses).mean()).item()
        mean /= distributed.world_size()
        rate = sum(map(len, order)) / (time.perf_counter() - begin)
        self.epoch += 1
        self._refuse_infinite("training", mean)
        validation = self._validate(logs) if self._is_time(self.options.eval_freq) else None
        if validation is not None:
            self._refuse_infinite("validation", validation)
        best = validation is not None and validation < self.best_loss
        self.best_loss = validation if best and validation is not None else self.best_loss
        if logs:
            logs.training(self.epoch, mean, self.trainer.lr, rate)
            self._save(best)
            shown = "" if validation is None else f"  validation {validation:.5f}"
            tqdm.write(
                f"epoch {self.epoch}/{self.options.n_epochs}  loss {mean:.5f}{shown}"
                f"{' (best)' if best else ''}  {rate:.0f} images/s"
            )

    def _refuse_infinite(self, kind: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"the {kind} loss became {loss} in epoch {self.epoch}; the checkpoints in "
                f"{self.run_dir} are those of the epochs before it, try a smaller --lr"
            )

    def _is_time(self, every: int) -> bool:
        return self.epoch % every == 0 or self.epoch == self.options.n_epochs

    def _batches(self, order: list[list[int]]) -> Iterator[Batch]:
        """The size of each global batch, this process's images of it, and their labels."""
        mine = [distributed.share_of(batch) for batch in order]
        loaded = image_batches(self.training, mine, self.line[LoadingOptions].num_workers)
        for batch, share, images in zip(order, mine, loaded, strict=True):
            learnt = self.subject.augment(images, share, self.epoch)
            if self.subject.labels is None:
                yield len(batch), learnt
            else:
                yield len(batch), learnt, self.subject.labels[share]

    def _validate(self, logs: TrainingLogs | None) -> float:
        """The validation loss of the weights that will be scored with."""
        network = copy.deepcopy(self.subject.network).eval()
        network.load_state_dict(self.trainer.evaluation_weights())
        with autocast(self.device, self.line[ComputeOptions].precision):
            return self.subject.validate(network, self.epoch, logs)

    def _save(self, best: bool) -> None:
        """The last checkpoint, and copies of it that are kept: the best, and every N-th epoch's."""
        state = {
            "options": {
                cls.__name__: run_files.plain(self.line[cls]) for cls in self.subject.groups
            },
            **self.subject.identity,
            **self.subject.findings(),
            "trainer": self.trainer.state_dict(),
            "weights": self.trainer.evaluation_weights(),
            "epoch": self.epoch,
            "best_loss": self.best_loss,
            "versions": run_files.versions(),
        }
        save_checkpoint(self.run_dir / run_files.LAST, state)
        if best:
            save_checkpoint(self.run_dir / run_files.BEST, state)
        if self.epoch % self.options.checkpoint_every == 0:
            save_checkpoint(run_files.epoch_checkpoint(self.run_dir, self.epoch), state)
