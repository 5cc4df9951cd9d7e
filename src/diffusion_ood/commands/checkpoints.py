"""The checkpoints of a run of training: what is in them, and going on from one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.commands.subject import Subject
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.model import versions
from diffusion_ood.options import FitOptions, RunOptions
from diffusion_ood.options.stored import refuse_contradiction, stored_options, to_dict
from diffusion_ood.runtime import distributed, run_directory
from diffusion_ood.runtime.checkpoint import (
    load_checkpoint,
    remove_checkpoint,
    restore_previous,
    save_checkpoint,
)
from diffusion_ood.training.trainer import Trainer


@dataclass
class Progress:
    """How far a run of training has come.

    Attributes:
        epoch: epochs that are finished.
        losses: of the steps since then, scalars; their number is that of the next batch.
        best_loss: the least validation loss.
    """

    epoch: int = 0
    losses: list[Tensor] = field(default_factory=list)
    best_loss: float = math.inf

    def __str__(self) -> str:
        steps = f" and {len(self.losses)} steps" if self.losses else ""
        return f"epoch {self.epoch}{steps}"

    def mean_loss(self) -> float:
        """The mean loss since the last epoch over all processes' images; all have to ask."""
        return torch.stack(self.reduced()).mean().item()

    def reduced(self) -> list[Tensor]:
        """The losses over all processes' images; all have to ask."""
        if not self.losses:
            return []
        losses = distributed.sum_over_processes(torch.stack(self.losses))
        return list(losses / distributed.world_size())


class Checkpoints:
    """The checkpoints in a run directory.

    They hold no state of a random generator: everything random is drawn from the seed and the
    number of the step, epoch or image. The order of an epoch's images follows from its number, and
    from what a checkpoint says under `order`.

    Args:
        line: the command line.
        options: those of the training.
        training: the images' split.
        subject: what is trained.
        trainer: its trainer.
    """

    def __init__(
        self,
        line: cli.CommandLine,
        options: FitOptions,
        training: Split,
        subject: Subject,
        trainer: Trainer,
    ) -> None:
        self.run_dir = line[RunOptions].run_dir
        self._options = options
        self._subject = subject
        self._trainer = trainer
        self._saved = ""  # what progress the last checkpoint has
        self._asked = {cls: line[cls] for cls in subject.groups}
        self._order = {
            "seed": options.seed,
            "batch_size": options.batch_size,
            "quick_test": options.quick_test,
            "images": hashlib.sha256("\n".join(training.images).encode()).hexdigest(),
        }

    def resume(self, epoch: int | None) -> Progress:
        """Load the last checkpoint, the one before where that is torn, or an epoch's; else nothing.

        Raises:
            UserError: no checkpoint is whole, or it is of another training.
        """
        progress = self._resume(epoch)
        distributed.refuse_difference(
            str(progress),
            f"{self.run_dir}: the processes found different checkpoints there, expected "
            "--output_dir to be one folder for all of them",
        )
        return progress

    def _resume(self, epoch: int | None) -> Progress:
        path = self.run_dir / run_directory.LAST
        if epoch is not None:
            path = run_directory.epoch_checkpoint(self.run_dir, epoch)
            state = load_checkpoint(path)
        elif path.exists() or (self.run_dir / run_directory.PREVIOUS).exists():
            state = self._last_whole(path)
        else:
            return Progress()
        self._refuse_another(state, path)
        try:
            self._trainer.load_state_dict(state["trainer"])
        except (KeyError, RuntimeError, ValueError) as error:
            # the two packages name some weights otherwise, and order them for the optimiser
            raise UserError(
                f"{path}: found weights of another network, trained with "
                f"{state['versions']}; go on with those packages, or use another --model_name"
            ) from error
        losses = [loss.to(self._trainer.device) for loss in state.get("losses", ())]
        progress = Progress(state["epoch"], losses, state["best_loss"])
        self._saved = str(progress) if epoch is None else ""
        distributed.print_once(f"going on from {path} after {progress}")
        return progress

    def save(self, progress: Progress, *, best: bool = False) -> None:
        """Save the last checkpoint, and of a whole epoch's the copies that are kept.

        Every process has to call this; the first one writes.

        Raises:
            UserError: a loss or a weight is no finite number; nothing is written then.
        """
        self.refuse_infinite(progress)
        if str(progress) == self._saved:  # so that the one before it is another, see `withdraw`
            return
        losses, self._saved = progress.reduced(), str(progress)
        if not distributed.is_main():
            return
        state = {
            "options": {cls.__name__: to_dict(asked) for cls, asked in self._asked.items()},
            **self._subject.identity,
            **self._subject.findings(),
            "trainer": self._trainer.state_dict(),
            "weights": self._trainer.evaluation_weights(),
            "epoch": progress.epoch,
            "losses": [loss.cpu() for loss in losses],
            "order": self._order,
            "best_loss": progress.best_loss,
            "versions": versions(),
        }
        # The last one at the end: what ends the process before goes on from an earlier one, and
        # makes these copies again.
        if best:
            save_checkpoint(self.run_dir / run_directory.BEST, state)
        if not losses and progress.epoch % self._options.checkpoint_every == 0:
            save_checkpoint(run_directory.epoch_checkpoint(self.run_dir, progress.epoch), state)
        last = self.run_dir / run_directory.LAST
        save_checkpoint(last, state, previous=self.run_dir / run_directory.PREVIOUS)

    def withdraw(self) -> None:
        """Take the last save back; the one before it takes its place, if there is one."""
        last, previous = self.run_dir / run_directory.LAST, self.run_dir / run_directory.PREVIOUS
        if distributed.is_main() and previous.exists():
            restore_previous(last, previous)
        elif distributed.is_main():
            remove_checkpoint(last)

    def refuse_infinite(self, progress: Progress) -> None:
        """Stop a training whose numbers are none any more; every process has to call this.

        Raises:
            UserError: a loss or a weight is no finite number.
        """
        self._refuse_infinite("training loss", progress, progress.reduced())
        self._refuse_infinite("weights", progress, self._trainer.weights())

    def _refuse_infinite(self, kind: str, progress: Progress, values: Iterable[Tensor]) -> None:
        finite = [value.isfinite().all() for value in values]
        if finite and not torch.stack(finite).all():
            raise UserError(
                f"the {kind} became nan or inf in epoch {progress.epoch + 1}; the checkpoints in "
                f"{self.run_dir} are those before it, try a smaller --lr"
            )

    def _refuse_another(self, state: Mapping[str, Any], path: Path) -> None:
        """Refuse a checkpoint of another network, or one amid an epoch of other batches."""
        for cls, asked in self._asked.items():
            stored = stored_options(cls, state, path)
            refuse_contradiction(asked, stored, to_dict(asked), path)
        for name, value in self._subject.identity.items():
            if name in state and state[name] != value:
                raise UserError(
                    f"{path}: was trained with {name.replace('_', ' ')} {state[name]}, but the "
                    f"training images have {value}; use another --model_name"
                )
        if not state.get("losses"):
            return
        for name, value in self._order.items():
            if state["order"][name] != value:
                found = "other training images" if name == "images" else f"{name} {value}"
                raise UserError(
                    f"{path}: was saved amid an epoch, expected to end it with the same batches, "
                    f"but found {found}; go on as before, or from an epoch's end with "
                    "--ddpm_checkpoint_epoch"
                )

    def _last_whole(self, path: Path) -> dict[str, Any]:
        previous = self.run_dir / run_directory.PREVIOUS
        try:
            return load_checkpoint(path)
        except UserError as error:
            if not previous.exists():
                raise
            state = load_checkpoint(previous)
            distributed.barrier()  # every process has read it
            if distributed.is_main():
                restore_previous(path, previous)
                print(f"{error}\nthe checkpoint saved before it takes its place", flush=True)
            return state
