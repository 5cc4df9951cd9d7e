"""Reconstruct images from many noise levels and score how far each reconstruction is off.

Reads a checkpoint and split CSVs; writes output_dir/model_name/ood/results_{val,in,<set>}.csv.
Run the same command again to go on where it stopped.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands import run_files
from diffusion_ood.commands.console import invocation
from diffusion_ood.commands.measuring import Measuring, save_sheet, wants_lpips
from diffusion_ood.commands.reconstructing import Reconstructor
from diffusion_ood.commands.shown_images import SHOWN_LEVELS, Choice
from diffusion_ood.commands.skipping import report_skipped
from diffusion_ood.commands.tasks import Task, choose_grid, read_tasks
from diffusion_ood.data.loaders import ImageSet, image_batches, open_images
from diffusion_ood.detection.history import add_work
from diffusion_ood.detection.parts import TableWriter, merge_parts
from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import find_alexnet_features
from diffusion_ood.options import (
    ComputeOptions,
    DiffusionOptions,
    ImageOptions,
    LoadingOptions,
    ReconstructOptions,
    RunOptions,
    TrackOptions,
)
from diffusion_ood.report.logs import log_set, open_tracker
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import describe
from diffusion_ood.runtime.lock import locked
from diffusion_ood.trajectories.grid import SparseGrid

GROUPS = (
    RunOptions,
    ReconstructOptions,
    ImageOptions,
    DiffusionOptions,
    LoadingOptions,
    ComputeOptions,
    TrackOptions,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    tasks = read_tasks(line[ReconstructOptions])
    with distributed.process_group(line[ComputeOptions].device) as device:
        run = _Run(line, device)
        for task in tasks:
            run.measuring.prepare(task.split)
        with locked(line[RunOptions].ood_dir, leftovers="**/.results_*.tmp"):
            for number, task in enumerate(tasks):
                run.score(task, images_after=sum(len(later.split) for later in tasks[number + 1 :]))
            for task in tasks:
                run.show(task)
            if distributed.is_main():
                tracker = open_tracker(line[RunOptions], line[TrackOptions], "reconstruct")
                for task in tasks:
                    log_set(tracker, run.ood_dir, task.name, run.fingerprint)
                tracker.close()
        distributed.print_once(
            f"tables are in {line[RunOptions].ood_dir}; next: {invocation('detect')} "
            f"--output_dir={line[RunOptions].output_dir} --model_name={line[RunOptions].model_name}"
        )


class _Run:
    """A loaded model and its scores, applied to one set of images after the other."""

    def __init__(self, line: cli.CommandLine, device: torch.device) -> None:
        self.line = line
        self.device = device
        self.options = line[ReconstructOptions]
        self.ood_dir = line[RunOptions].ood_dir
        self.images: dict[str, ImageSet] = {}
        path = run_files.asked_checkpoint(line[RunOptions].run_dir, self.options, line.given)
        self.model, self.image_options, content = run_files.load_model(path)
        distributed.refuse_difference(
            content["digest"], f"{path}: was replaced while the processes read it; start again"
        )
        for cls in run_files.MODEL_GROUPS:
            names = [f.name for f in dataclasses.fields(cls) if f.name in line.given]
            asked = to_dict(line[cls])
            stored = run_files.stored_options(cls, content, path)
            run_files.refuse_contradiction(asked, stored, names, path)
        self.grid = choose_grid(line, self.model.schedule)
        self.slots = [(t, k) for t in self.grid.starts for k in range(self.options.repeats)]
        self.measuring = Measuring(
            self.options,
            _alexnet_features(self.options),
            self.model,
            tuple(content.get("classes", ())),
            device,
        )
        self.reconstructor = Reconstructor(line, self.model, self.grid, self.measuring, device)
        self.fingerprint = {
            "checkpoint": content["digest"],
            "sampler": self.options.solver,
            "num_inference_steps": self.options.num_inference_steps,
            "starts": list(self.grid.starts),
            "budget": self.options.budget,
            "budget_steps": self.options.budget_steps,
            "scores": self.measuring.columns,
            "seed": self.options.seed,
            "precision": line[ComputeOptions].precision,
            **self.measuring.settings,
        }
        processes, batch = distributed.world_size(), self.options.batch_size
        distributed.print_once(
            f"{path} after epoch {content['epoch']}, on {processes} × {describe(device)}; "
            f"{len(self.grid.starts)} start points, {self.reconstructor}; "
            f"--batch_size is {batch} images a process, {batch * processes} in all"
        )

    def score(self, task: Task, images_after: int) -> None:
        """Make the table of one set, or what is missing of it; more sets may come after it."""
        images = self.images[task.name] = self._open(task)
        task = dataclasses.replace(task, split=images.split)
        path = self.ood_dir / f"results_{task.name}.csv"
        with TableWriter(
            path,
            fingerprint=self.fingerprint,
            rows_per_image=len(self.slots),
            facts={
                "split": str(task.split.path),
                "flip": task.split.flip,
                "skipped": len(images.skipped),
                "native_size": [list(size) for size in images.native_sizes],
                "calls_per_image": self.reconstructor.calls,
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
            spare = merge_parts(path, task.split.images, len(self.slots))
            if spare:
                print(f"{task.name}: {spare} more images were done and are kept for later")
            if self.options.save_images:
                self._save_sheet(task, images)
        distributed.barrier()

    def show(self, task: Task) -> None:
        """Keep reconstructions of the images that a report on this set is going to show."""
        if distributed.is_main() and self.options.report_images and task.type != "val":
            images, grid = self.images[task.name], SparseGrid(self.grid, SHOWN_LEVELS)

            def cells(indices: list[int]) -> Tensor:
                return self.reconstructor.cells(images, indices, grid, repeats=1)

            task = dataclasses.replace(task, split=images.split)
            choice = Choice(self.ood_dir, task, self.options.report_images, self.options.batch_size)
            print(f"{task.name}: {choice.keep(cells, grid.starts, self.fingerprint)}", flush=True)
        distributed.barrier()

    def _open(self, task: Task) -> ImageSet:
        images = open_images(
            task.split,
            self.image_options,
            self.line[LoadingOptions],
            progress=distributed.is_main(),
        )
        report_skipped(images, task.name, self.line[RunOptions].run_dir)
        if images.skipped:
            self.measuring.prepare(images.split)
        if images.shape != self.model.image_shape:
            raise UserError(
                f"{task.split.path}: found images of {images.shape}, but the model was trained on "
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
        """Score the images of these indices, each on disk some seconds after it is finished."""
        size = self.options.batch_size
        batches = [indices[k : k + size] for k in range(0, len(indices), size)]
        loaded = image_batches(images, batches, self.line[LoadingOptions].num_workers)
        self.reconstructor.expect(len(indices) + images_after)
        begin, done = time.perf_counter(), 0
        try:
            with tqdm(
                total=len(indices),
                desc=task.name,
                unit="image",
                disable=None if distributed.is_main() else True,
            ) as bar:
                for batch, pixels in zip(batches, loaded, strict=True):
                    for rows, values in self._finished(task, batch, pixels):
                        keys = [task.split.images[batch[row]] for row in rows]
                        writer.append(self.measuring.table(task.type, keys, self.slots, values))
                        bar.update(len(rows))
                        done += len(rows)
                    if sentence := self.reconstructor.network.decision():
                        distributed.print_once(sentence)
        finally:  # what an interrupted run has done counts too
            self._remember(task, done, time.perf_counter() - begin)

    def _remember(self, task: Task, done: int, seconds: float) -> None:
        """Say what was done, and add it to the run's history."""
        distributed.print_once(f"{task.name}: {done} images, {done / seconds:.2f} images/s")
        if distributed.is_main() and done:
            add_work(
                self.ood_dir,
                {
                    "set": task.name,
                    "fingerprint": self.fingerprint,
                    "images": done,
                    "seconds": round(seconds, 3),
                    "processes": distributed.world_size(),
                    "device": describe(self.device),
                    "command": self.line.command(invocation("reconstruct")),
                    "versions": versions(),
                },
            )

    def _finished(
        self, task: Task, batch: list[int], pixels: Tensor
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Which of the images of these indices, and their scores `(n, slots, columns)`, in turn."""
        images = pixels.to(self.device)
        watch = self.measuring.watch(images)
        found = self.reconstructor.run(
            task.split, batch, images, watch, self.grid, self.options.repeats
        )
        return self.measuring.finished(images, found, len(self.slots), watch)

    def _save_sheet(self, task: Task, images: ImageSet) -> None:
        """A picture with a row an image: the image, then its reconstructions, t rising."""
        indices = list(range(min(self.options.save_images, len(images))))
        path = self.ood_dir / f"reconstructions_{task.name}.png"
        cells = self.reconstructor.cells(images, indices, self.grid, self.options.repeats)
        save_sheet(path, cells)
        print(f"{task.name}: {path}", flush=True)


def _alexnet_features(options: ReconstructOptions) -> dict[str, Tensor] | None:
    """LPIPS's weights, where it is asked for; the first process looks for them first."""
    if not wants_lpips(options):
        return None
    features = None
    for mine in (distributed.is_main(), not distributed.is_main()):
        if mine:
            features = find_alexnet_features(options.lpips_weights)
        distributed.barrier()
    if features is None:
        distributed.print_once(
            "LPIPS is left out, since its weights could not be had; --lpips_weights takes a file "
            "of torchvision's AlexNet weights"
        )
    return features
