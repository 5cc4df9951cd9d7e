"""Train a denoising diffusion model on in-distribution images.

Reads two split CSVs; writes checkpoints, config.json and TensorBoard logs to output_dir/model_name.
Run the same command again to go on from the last checkpoint.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands import run_files
from diffusion_ood.data.loaders import ImageSet, epoch_order, image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.data.transforms import augmentation
from diffusion_ood.diffusion.model import DiffusionModel
from diffusion_ood.diffusion.samplers import SAMPLERS
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.options import (
    ComputeOptions,
    DiffusionOptions,
    ImageOptions,
    LoadingOptions,
    RunOptions,
    TrainOptions,
)
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint
from diffusion_ood.runtime.compiling import CompileDecision
from diffusion_ood.runtime.device import autocast, describe, prepare
from diffusion_ood.runtime.files import write_json
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Plan, Trainer
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories
from diffusion_ood.trajectories.grid import TimeGrid
from diffusion_ood.trajectories.noise import image_noise

GROUPS = (RunOptions, TrainOptions, ImageOptions, DiffusionOptions, LoadingOptions, ComputeOptions)

NUM_SAMPLES = 16  # in TensorBoard's grid
SAMPLE_STEPS = 50


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    with distributed.process_group(line[ComputeOptions].device) as device:
        _Run(line, device).train()


class _Run:
    """One training run: its data, its trainer and its files."""

    def __init__(self, line: cli.CommandLine, device: torch.device) -> None:
        self.line = line
        self.device = device
        self.options = line[TrainOptions]
        self.run_dir = line[RunOptions].run_dir
        self.training, self.validation = self._open_data()
        torch.manual_seed(self.options.seed)
        self.model = DiffusionModel(line[DiffusionOptions], self.training.shape)
        levels = self.model.schedule.num_timesteps
        max_t = self.options.max_train_t or levels
        if max_t > levels:
            raise UserError(f"--max_train_t: found {max_t}, expected at most {levels}")
        self.objective = DiffusionObjective(self.model, max_t)
        prepare(self.model.network, device)
        self.steps_per_epoch = len(self._order(0))
        plan = Plan(
            lr=self.options.lr,
            lr_schedule=self.options.lr_schedule,
            total_steps=self.options.n_epochs * self.steps_per_epoch,
            ema_decay=self.options.ema_decay,
            precision=line[ComputeOptions].precision,
            seed=self.options.seed,
        )
        self.trainer = Trainer(self.model.network, self.objective, plan)
        self.epoch = 0
        self.best_loss = math.inf

    def train(self) -> None:
        """Train from where the last checkpoint stands to the last epoch."""
        self._resume()
        if self.epoch >= self.options.n_epochs:
            distributed.print_once(f"{self.epoch} epochs are done; for more, raise --n_epochs")
            return
        self._announce()
        decision = CompileDecision(self.line[ComputeOptions].compile, self.device)
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

    def _open_data(self) -> tuple[ImageSet, ImageSet]:
        """Training and validation images; the first process packs them, the others wait for it."""
        paths = (self.options.training_ids, self.options.validation_ids)
        sets: list[ImageSet] = []
        for mine in (distributed.is_main(), not distributed.is_main()):
            if mine:
                sets = [self._open(path) for path in paths]
            distributed.barrier()
        training, validation = sets
        if training.shape != validation.shape:
            raise UserError(
                f"{paths[1]}: found images of {validation.shape}, expected {training.shape} "
                f"like those of {paths[0]}; give --image_size"
            )
        return training, validation

    def _open(self, path: Path) -> ImageSet:
        return open_images(
            read_split(path, flips=False),
            self.line[ImageOptions],
            self.line[LoadingOptions],
            progress=distributed.is_main(),
        )

    def _order(self, epoch: int) -> list[list[int]]:
        """The global batches of an epoch; an incomplete last one is left out."""
        n, size = len(self.training), self.options.batch_size
        batches = epoch_order(n, size, seed=self.options.seed, epoch=epoch, drop_last=n >= size)
        return batches[:1] if self.options.quick_test else batches

    def _resume(self) -> None:
        epoch = self.options.ddpm_checkpoint_epoch
        path = self.run_dir / run_files.LAST
        if epoch is not None:
            path = run_files.epoch_checkpoint(self.run_dir, epoch)
        elif not path.exists():
            return
        state = load_checkpoint(path)
        for cls in run_files.MODEL_GROUPS:
            asked = run_files.plain(self.line[cls])
            run_files.refuse_contradiction(asked, state["options"][cls.__name__], asked, path)
        if tuple(state["image_shape"]) != tuple(self.training.shape):
            raise UserError(
                f"{self.options.training_ids}: found images of {tuple(self.training.shape)}, but "
                f"{path} was trained on {tuple(state['image_shape'])}; use another --model_name"
            )
        self.trainer.load_state_dict(state["trainer"])
        self.epoch, self.best_loss = state["epoch"], state["best_loss"]
        distributed.print_once(f"going on from {path} after epoch {self.epoch}")

    def _announce(self) -> None:
        if not distributed.is_main():
            return
        config = {cls.__name__: run_files.plain(self.line[cls]) for cls in GROUPS}
        write_json(self.run_dir / "config.json", {**config, "versions": run_files.versions()})
        parameters = sum(p.numel() for p in self.model.network.parameters())
        world, size = distributed.world_size(), self.options.batch_size
        print(
            f"{len(self.training)} training and {len(self.validation)} validation images of "
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
        self._refuse_non_finite("training", mean)
        validation = self._validate(logs) if self._is_time(self.options.eval_freq) else None
        self._refuse_non_finite("validation", validation or 0.0)
        best = validation is not None and validation < self.best_loss
        self.best_loss = min(self.best_loss, validation if best and validation else math.inf)
        if logs:
            logs.training(self.epoch, mean, self.trainer.lr, rate)
            self._save(best)
            shown = "" if validation is None else f"  validation {validation:.5f}"
            tqdm.write(
                f"epoch {self.epoch}/{self.options.n_epochs}  loss {mean:.5f}{shown}"
                f"{' (best)' if best else ''}  {rate:.0f} images/s"
            )

    def _refuse_non_finite(self, kind: str, loss: float) -> None:
        """Stop before weights that give no number are saved."""
        if not math.isfinite(loss):
            raise UserError(
                f"the {kind} loss became {loss} in epoch {self.epoch}; the checkpoints in "
                f"{self.run_dir} are those of the epochs before it, try a smaller --lr"
            )

    def _is_time(self, every: int) -> bool:
        return self.epoch % every == 0 or self.epoch == self.options.n_epochs

    def _batches(self, order: list[list[int]]) -> Iterator[tuple[int, Tensor]]:
        """The size of each global batch, and this process's images of it."""
        mine = [distributed.share_of(batch) for batch in order]
        loaded = image_batches(self.training, mine, self.line[LoadingOptions].num_workers)
        augment = augmentation(self.training.shape, seed=self.options.seed, epoch=self.epoch)
        for batch, own, images in zip(order, mine, loaded, strict=True):
            yield len(batch), augment(images, own) if self.options.augmentation else images

    def _validate(self, logs: TrainingLogs | None) -> float:
        """The validation loss of the weights that will be scored with, and samples of them."""
        network = copy.deepcopy(self.model.network).eval()
        network.load_state_dict(self.trainer.evaluation_weights())
        size = self.options.batch_size
        indices = range(len(self.validation))[: size if self.options.quick_test else None]
        batches = [list(indices[k : k + size]) for k in range(0, len(indices), size)]
        with autocast(self.device, self.line[ComputeOptions].precision):
            loss = self.objective.validation_loss(
                network, self.validation, batches, self.options.seed
            )
            if logs:
                logs.validation(self.epoch, loss, self._samples(network))
        return loss

    @torch.inference_mode()
    def _samples(self, network: nn.Module) -> Tensor:
        """A few images drawn from the model, `(B, C, *S)` in [0, 1] on the CPU."""
        schedule, shape = self.model.schedule, self.training.shape
        grid = TimeGrid(schedule.num_timesteps, SAMPLE_STEPS)
        start = grid.starts[-1]
        times = (*grid.times(start), CLEAN)
        trajectories = [
            Trajectory(
                row, times, partial(image_noise, shape, self.options.seed, f"sample {row}", start)
            )
            for row in range(NUM_SAMPLES)
        ]
        samples = torch.empty(NUM_SAMPLES, *shape)
        for rows, x in run_trajectories(
            self.model.denoiser(network), schedule, SAMPLERS["ddim"], trajectories, self.device
        ):
            samples[rows] = self.model.from_model(x).cpu()
        return samples

    def _save(self, best: bool) -> None:
        """The last checkpoint, and copies of it that are kept: the best, and every N-th epoch's."""
        groups = run_files.MODEL_GROUPS
        state = {
            "options": {cls.__name__: run_files.plain(self.line[cls]) for cls in groups},
            "image_shape": tuple(self.training.shape),
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
