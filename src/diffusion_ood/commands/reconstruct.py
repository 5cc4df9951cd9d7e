"""Reconstruct images from many noise levels and score how far each reconstruction is off.

Reads a checkpoint and split CSVs; writes output_dir/model_name/ood/results_{val,in,<set>}.csv.
Run the same command again to go on where it stopped.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands import run_files
from diffusion_ood.commands.tasks import Task, read_tasks
from diffusion_ood.data.loaders import ImageSet, image_batches, open_images
from diffusion_ood.data.splits import Split
from diffusion_ood.detection.parts import TableWriter, merge_parts
from diffusion_ood.diffusion.denoiser import NetworkDenoiser
from diffusion_ood.diffusion.samplers import SAMPLERS
from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import (
    ComputeOptions,
    DiffusionOptions,
    ImageOptions,
    LoadingOptions,
    ReconstructOptions,
    RunOptions,
)
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.batching import CompiledForFullBatches
from diffusion_ood.runtime.compiling import verdict
from diffusion_ood.runtime.device import autocast, compiler_is_there, describe, prepare
from diffusion_ood.runtime.files import atomic_write, sha256
from diffusion_ood.scores.base import Score
from diffusion_ood.scores.mse import MeanSquaredError
from diffusion_ood.scores.perceptual import PerceptualDifference
from diffusion_ood.scores.reconstruction import score_reconstructions
from diffusion_ood.trajectories.grid import Grid, StraightGrid, TimeGrid, batch_width, calls
from diffusion_ood.trajectories.reconstruct import reconstruct

GROUPS = (
    RunOptions,
    ReconstructOptions,
    ImageOptions,
    DiffusionOptions,
    LoadingOptions,
    ComputeOptions,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    tasks = read_tasks(line[ReconstructOptions])
    with distributed.process_group(line[ComputeOptions].device) as device:
        run = _Run(line, device)
        for number, task in enumerate(tasks):
            run.score(task, images_after=sum(len(later.split) for later in tasks[number + 1 :]))
        distributed.print_once(
            f"tables are in {line[RunOptions].ood_dir}; next: python ood_detection.py "
            f"--output_dir={line[RunOptions].output_dir} --model_name={line[RunOptions].model_name}"
        )


class _Run:
    """A loaded model and its scores, applied to one set of images after the other."""

    def __init__(self, line: cli.CommandLine, device: torch.device) -> None:
        self.line = line
        self.device = device
        self.options = line[ReconstructOptions]
        self.ood_dir = line[RunOptions].ood_dir
        path = self._checkpoint_path()
        self.model, self.image_options, content = run_files.load_model(path)
        for cls in run_files.MODEL_GROUPS:
            names = [f.name for f in dataclasses.fields(cls) if f.name in line.given]
            asked, stored = run_files.plain(line[cls]), content["options"][cls.__name__]
            run_files.refuse_contradiction(asked, stored, names, path)
        self.network: Any = prepare(self.model.network, device)
        self.grid = self._grid(line)
        self.width = batch_width(self.grid, self.options.batch_size, self.options.max_batch)
        self.scores = _build_scores(self.options.lpips_weights, device)
        self.fingerprint = {
            "checkpoint": sha256(path),
            "sampler": self.options.sampler,
            "num_inference_steps": self.options.num_inference_steps,
            "starts": list(self.grid.starts),
            "budget": self.options.budget,
            "scores": [score.name for score in self.scores],
            "seed": self.options.seed,
            "precision": line[ComputeOptions].precision,
        }
        self._compile_is_open = False
        self._decide_at_once(line[ComputeOptions].compile)
        distributed.print_once(
            f"{path} after epoch {content['epoch']}, on {distributed.world_size()} × "
            f"{describe(device)}; {len(self.grid.starts)} start points, {calls(self.grid)} network "
            f"calls an image{'' if self.options.budget else f', by {self.options.sampler}'}"
        )

    def score(self, task: Task, images_after: int) -> None:
        """Make the table of one set, or what is missing of it; more sets may come after it."""
        images = self._open(task.split)
        path = self.ood_dir / f"results_{task.name}.csv"
        with TableWriter(
            path,
            fingerprint=self.fingerprint,
            rows_per_image=len(self.grid.starts),
            facts={
                "split": str(task.split.path),
                "native_size": [list(size) for size in images.native_sizes],
                "calls_per_image": calls(self.grid),
            },
            rank=distributed.rank(),
        ) as writer:
            distributed.barrier()  # all see what was finished before any goes on
            missing = [k for k, key in enumerate(task.split.images) if key not in writer.finished]
            done = len(images) - len(missing)
            if done:
                distributed.print_once(f"{task.name}: {done} of {len(images)} images were done")
            mine = distributed.share_of(missing)
            after = images_after // distributed.world_size()
            self._score_missing(task, images, mine, writer, after)
        distributed.barrier()
        if distributed.is_main():
            spare = merge_parts(path, task.split.images, len(self.grid.starts))
            if spare:
                print(f"{task.name}: {spare} more images were done and are kept for later")
            if self.options.save_images:
                self._save_sheet(task, images)
        distributed.barrier()

    def _grid(self, line: cli.CommandLine) -> Grid:
        """The start points asked for, and the way down from them."""
        options, num_timesteps = self.options, self.model.schedule.num_timesteps
        if options.budget is None:
            steps, skip = options.num_inference_steps, options.inference_skip_factor
            return TimeGrid(num_timesteps, steps, skip)
        for name in ("num_inference_steps", "inference_skip_factor", "sampler"):
            if name in line.given:
                raise UserError(f"--{name}: means nothing beside --budget; leave one of them out")
        return StraightGrid(num_timesteps, options.budget)

    def _checkpoint_path(self) -> Path:
        run_dir, epoch = self.line[RunOptions].run_dir, self.options.ddpm_checkpoint_epoch
        if epoch is not None:
            if "eval_checkpoint" in self.line.given:
                raise UserError(
                    "--ddpm_checkpoint_epoch, --eval_checkpoint: found both, expected one of them"
                )
            return run_files.epoch_checkpoint(run_dir, epoch)
        names = {"best": run_files.BEST, "last": run_files.LAST}
        if self.options.eval_checkpoint in names:
            return run_dir / names[self.options.eval_checkpoint]
        return Path(self.options.eval_checkpoint)

    def _open(self, split: Split) -> ImageSet:
        images = open_images(
            split, self.image_options, self.line[LoadingOptions], progress=distributed.is_main()
        )
        if images.shape != self.model.image_shape:
            raise UserError(
                f"{split.path}: found images of {images.shape}, but the model was trained on "
                f"{self.model.image_shape}; train with --image_size, or convert the images"
            )
        return images

    def _score_missing(
        self,
        task: Task,
        images: ImageSet,
        indices: list[int],
        writer: TableWriter,
        images_after: int,
    ) -> None:
        """Score the images of these indices, each batch on disk as soon as it is finished."""
        size = self.options.batch_size
        batches = [indices[k : k + size] for k in range(0, len(indices), size)]
        loaded = image_batches(images, batches, self.line[LoadingOptions].num_workers)
        begin, done = time.perf_counter(), 0
        with tqdm(
            total=len(indices),
            desc=task.name,
            unit="image",
            disable=None if distributed.is_main() else True,
        ) as bar:
            for batch, pixels in zip(batches, loaded, strict=True):
                keys = [task.split.images[index] for index in batch]
                values = score_reconstructions(
                    self.scores,
                    pixels.to(self.device),
                    self._reconstruct(pixels, keys),
                    len(self.grid.starts),
                )
                writer.append(self._table(task.type, keys, values))
                bar.update(len(batch))
                done += len(batch)
                per_image = (time.perf_counter() - begin) / done
                self._consider_compiling(per_image * (len(indices) - done + images_after))
        rate = done / (time.perf_counter() - begin)
        distributed.print_once(f"{task.name}: {done} images, {rate:.2f} images/s")

    def _denoiser(self) -> NetworkDenoiser:
        """ε̂ by the network as it is now, plain or compiled, at the precision asked for."""

        def network(x: Tensor, t: Tensor) -> Tensor:
            with autocast(self.device, self.line[ComputeOptions].precision):
                return self.network(x, t)

        return self.model.denoiser(network)

    def _reconstruct(
        self, pixels: Tensor, keys: list[str]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All reconstructions of images `(B, C, *S)` in [0, 1]."""
        return reconstruct(
            self.model,
            self._denoiser(),
            SAMPLERS[self.options.sampler],
            self.grid,
            pixels.to(self.device),
            keys,
            self.options.seed,
            self.width,
        )

    def _table(self, kind: str, keys: list[str], values: Tensor) -> pd.DataFrame:
        """The rows of a batch's images, image by image, t rising."""
        starts = self.grid.starts
        table = pd.DataFrame(
            {
                "filename": [key for key in keys for _ in starts],
                "type": kind,
                "t": list(starts) * len(keys),
            }
        )
        for k, score in enumerate(self.scores):
            table[score.name] = values[:, :, k].flatten().numpy()
        return table

    def _decide_at_once(self, mode: str) -> None:
        """Compile when told to; leave the decision open on `auto`, where a compiler is there."""
        possible = compiler_is_there(self.device)
        if mode == "on" and not possible:
            raise UserError(f"--compile on: found no compiler for {self.device}; use auto or off")
        self._compile_is_open = mode == "auto" and possible
        if mode == "on":
            self.network = CompiledForFullBatches(self.network, self.width)

    def _consider_compiling(self, remaining_s: float) -> None:
        """After the first batch, once: compile if the rest of the work repays it."""
        if self._compile_is_open:
            self._compile_is_open = False
            sentence = verdict(remaining_s)
            distributed.print_once(f"compile {sentence}")
            if sentence.startswith("on"):
                self.network = CompiledForFullBatches(self.network, self.width)

    def _save_sheet(self, task: Task, images: ImageSet) -> None:
        """A picture with a row an image: the image, then its reconstructions, t rising."""
        indices = list(range(min(self.options.save_images, len(images))))
        pixels = images.batch(indices)
        keys = [task.split.images[index] for index in indices]
        cells = torch.empty(len(indices), 1 + len(self.grid.starts), *images.shape)
        cells[:, 0] = pixels
        for image, start, reconstruction in self._reconstruct(pixels, keys):
            cells[image, 1 + start] = reconstruction.cpu()
        if len(images.shape) == 4:  # the middle slice of each volume
            cells = cells[:, :, :, images.shape[1] // 2]
        path = self.ood_dir / f"reconstructions_{task.name}.png"
        sheet = make_grid(cells.flatten(0, 1), nrow=cells.shape[1], padding=1, pad_value=0.5)
        with atomic_write(path, "wb") as file:
            save_image(sheet, file, format="png")
        print(f"{task.name}: {path}", flush=True)


def _build_scores(lpips_weights: Path | None, device: torch.device) -> list[Score]:
    """MSE, and LPIPS where its weights can be had; the first process looks for them first."""
    features = None
    for mine in (distributed.is_main(), not distributed.is_main()):
        if mine:
            features = find_alexnet_features(lpips_weights)
        distributed.barrier()
    if features is None:
        distributed.print_once(
            "LPIPS is left out, since its weights could not be had: the scores are MSE alone; "
            "--lpips_weights takes a file of torchvision's AlexNet weights"
        )
        return [MeanSquaredError()]
    return [MeanSquaredError(), PerceptualDifference(features, device)]
