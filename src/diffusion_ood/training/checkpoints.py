"""The checkpoints of a training run: what they store, and how a run resumes from one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.data.contents import content_number
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.errors import UserError
from diffusion_ood.model import versions
from diffusion_ood.options import FitOptions
from diffusion_ood.options.stored import refuse_contradiction, stored_entry, stored_options, to_dict
from diffusion_ood.runtime import distributed, run_directory
from diffusion_ood.runtime.checkpoint import load_checkpoint, restore_previous, save_checkpoint
from diffusion_ood.runtime.words import counted
from diffusion_ood.training.task import TrainingTask
from diffusion_ood.training.trainer import Trainer


@dataclass
class Progress:
    """The position of a training run.

    Attributes:
        epoch: number of finished epochs.
        losses: of the steps since the last epoch, scalars; their number is that of the next batch.
        best_loss: the least validation loss.
    """

    epoch: int = 0
    losses: list[Tensor] = field(default_factory=list)
    best_loss: float = math.inf

    def __str__(self) -> str:
        steps = f" and {counted(len(self.losses), 'step')}" if self.losses else ""
        return f"epoch {self.epoch}{steps}"


def _of_images(images: ImageSet, labels: Tensor | None) -> dict[str, Any]:
    """What a checkpoint keeps of its training images, whatever their order."""
    numbers = torch.tensor([content_number(digest) for digest in images.digests])
    classes = torch.full_like(numbers, -1) if labels is None else labels
    order = sorted(range(len(numbers)), key=lambda i: (int(numbers[i]), int(classes[i])))
    return {
        "contents": numbers[order],
        "classes": classes[order],
        "intensity": images.intensity.as_json(),
    }


class Checkpoints:
    """The checkpoints in a run directory.

    They store no state of a random generator: every random number is drawn from the seed and the
    number of the step, epoch or image. The order of an epoch's images follows from its number and
    from the entry `order` of a checkpoint.
    """

    def __init__(self, task: TrainingTask[Any, Any], trainer: Trainer) -> None:
        fit: FitOptions = task.fit
        self.run_dir: Path = task.settings.run.run_dir
        self._last = self.run_dir / run_directory.LAST
        self._previous = self.run_dir / run_directory.PREVIOUS
        self._every = fit.checkpoint_every
        self._task = task
        self._trainer = trainer
        self._saved = ""  # the progress of the last checkpoint
        self._options = (task.settings.image, task.settings.model)
        self._training = _of_images(task.training, task.labels)
        self._order = {
            "seed": fit.seed,
            "batch_size": fit.batch_size,
            "quick_test": fit.quick_test,
            "images": hashlib.sha256("\n".join(task.training.split.images).encode()).hexdigest(),
        }

    def resume(self, epoch: int | None) -> Progress:
        """Load the last checkpoint, or that of an epoch; an empty run directory is at epoch 0.

        A damaged last checkpoint is replaced by the one before it.

        Raises:
            UserError: every checkpoint is damaged, or the checkpoint is of another training.
        """
        path, progress = self._last, Progress()
        if epoch is not None:
            path = run_directory.epoch_checkpoint(self.run_dir, epoch)
            progress = self._load(load_checkpoint(path), path)
        elif self._last.exists() or self._previous.exists():
            progress = self._load(self._last_whole(), path)
            self._saved = str(progress)
        distributed.require_same_on_all_ranks(
            str(progress),
            f"{self.run_dir}: the processes found different checkpoints, expected `output_dir` to "
            "be the same folder for all of them",
        )
        return progress

    def _load(self, state: dict[str, Any], path: Path) -> Progress:
        self._require_same_training(state, path)
        try:
            self._trainer.load_state_dict(state["trainer"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            # MONAI core and monai-generative name some weights differently
            raise UserError(
                f"{path}: found weights of another network, trained with {state.get('versions')}; "
                "resume with those packages, or use another `model_name`"
            ) from error
        losses = [loss.to(self._trainer.device) for loss in state.get("losses", ())]
        epoch, best = (stored_entry(name, state, path) for name in ("epoch", "best_loss"))
        progress = Progress(epoch, losses, best)
        distributed.print_once(f"resuming from {path} after {progress}")
        return progress

    def save(self, progress: Progress, *, best: bool = False) -> None:
        """Save the last checkpoint, and at the end of an epoch the copies that are kept.

        Every process has to call this; the first one writes.

        Raises:
            UserError: a loss or a weight is not finite; nothing is written.
        """
        losses = self.finite_losses(progress)
        if str(progress) == self._saved:  # `rollback` needs a different checkpoint before this one
            return
        self._saved = str(progress)
        if not distributed.is_main():
            return
        state = {
            "options": {type(asked).__name__: to_dict(asked) for asked in self._options},
            **self._task.metadata,
            **self._task.metrics,
            **self._task.parts,
            "trainer": self._trainer.state_dict(),
            "weights": self._trainer.evaluation_weights(),
            "epoch": progress.epoch,
            "losses": [loss.cpu() for loss in losses],
            "order": self._order,
            "training": self._training,
            "best_loss": progress.best_loss,
            "versions": versions(),
        }
        # The last checkpoint is written at the end: a process that dies before that resumes from
        # an earlier one, and writes these copies again.
        if best:
            save_checkpoint(self.run_dir / run_directory.BEST, state)
        if not losses and progress.epoch % self._every == 0:
            save_checkpoint(run_directory.epoch_checkpoint(self.run_dir, progress.epoch), state)
        save_checkpoint(self._last, state, self._previous)

    def rollback(self) -> None:
        """Replace the last checkpoint by the one before it, or remove it if there is none."""
        if distributed.is_main() and self._previous.exists():
            restore_previous(self._last, self._previous)
        elif distributed.is_main():
            self._last.unlink(missing_ok=True)

    def finite_losses(self, progress: Progress) -> list[Tensor]:
        """The mean losses over all processes; every process has to call this.

        Raises:
            UserError: a loss or a weight is not finite.
        """
        losses: list[Tensor] = []
        if progress.losses:
            total = distributed.sum_over_processes(torch.stack(progress.losses))
            losses = list(total / distributed.world_size())
        trainer = self._trainer
        weights = [*trainer.network.state_dict().values(), *trainer.average.values()]
        for kind, values in (("training loss", losses), ("weights", weights)):
            finite = [value.isfinite().all() for value in values]
            if finite and not torch.stack(finite).all():
                raise UserError(
                    f"the {kind} became nan or inf in epoch {progress.epoch + 1}; the checkpoints "
                    f"in {self.run_dir} are from before that, try a smaller `lr`"
                )
        return losses

    def _require_same_training(self, state: Mapping[str, Any], path: Path) -> None:
        """Refuse a checkpoint of another network, or one within an epoch of other batches."""
        for asked in self._options:
            stored = stored_options(type(asked), state, path)
            refuse_contradiction(asked, stored, to_dict(asked), path)
        known = {"autoencoder": "", **state}  # which models of images do without
        for name, value in self._task.metadata.items():
            if name in known and known[name] != value:
                raise UserError(
                    f"{path}: was trained with {name.replace('_', ' ')} {known[name] or 'none'}, "
                    f"but this run has {value or 'none'}; use another `model_name`"
                )
        self._require_same_images(state.get("training") or {}, path)
        for name, value in self._order.items() if state.get("losses") else ():
            if state["order"][name] != value:
                found = "other training images" if name == "images" else f"{name} {value}"
                raise UserError(
                    f"{path}: was saved within an epoch; expected the same batches until its end, "
                    f"found {found}; resume with the options of before, or from the end of an "
                    "epoch with `ddpm_checkpoint_epoch`"
                )

    def _require_same_images(self, trained: Mapping[str, Any], path: Path) -> None:
        """Refuse images of other content or classes; checkpoints of before say nothing of them."""
        if "contents" not in trained:
            return
        split, own, found = self._task.training.split.path, self._training, trained["contents"]
        if not torch.equal(own["contents"], found):
            shared = int(torch.isin(own["contents"], found).sum())
            raise UserError(
                f"{path}: was trained on {counted(len(found), 'image')}, of which {split} "
                f"has {shared}, and {len(own['contents']) - shared} others; expected "
                "the same images, use another `model_name`"
            )
        if "classes" in trained and not torch.equal(own["classes"], trained["classes"]):
            raise UserError(
                f"{path}: was trained with other labels of the same images than {split} has, "
                "expected the same, use another `model_name`"
            )

    def _last_whole(self) -> dict[str, Any]:
        try:
            return load_checkpoint(self._last)
        except UserError as error:
            if not self._previous.exists():
                raise
            state = load_checkpoint(self._previous)
            distributed.barrier()  # until every process has read it
            if distributed.is_main():
                restore_previous(self._last, self._previous)
                print(f"{error}\nit is replaced by the checkpoint before it", flush=True)
            return state
