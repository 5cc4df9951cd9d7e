"""Samples of a diffusion model: number i depends on the seed and i alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood.data.pictures import read_png, save_sheet, write_png
from diffusion_ood.errors import UserError
from diffusion_ood.methods.cost import announcement
from diffusion_ood.networks.resnet import Classifier, load_classifier
from diffusion_ood.options import SampleOptions
from diffusion_ood.quality.sample_quality import SampleQuality
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.words import counted
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.grid import LevelGrid
from diffusion_ood.trajectories.noise import image_noise

SHEET_ROWS, SHEET_COLUMNS = 8, 10
ARRAY = "samples.npy"


def draw(
    evaluator: Evaluator,
    numbers: Sequence[int],
    times: tuple[int, ...],
    *,
    sampler: str = "ddim",
    seed: int = 2,
    classes: Sequence[int] = (),
    guidance: float = 0.0,
    clip: bool = False,
) -> Iterator[tuple[list[int], Tensor]]:
    """Samples of these numbers as they are finished, `(n, C, *S)` in [0, 1].

    Args:
        evaluator: the model.
        numbers: of the samples; each has noise of its own.
        times: falling, from pure noise to the clean image.
        sampler: a key of `SAMPLERS`.
        seed: of the noise.
        classes: of the numbers from 0 on, again and again; none of a model without classes.
        guidance, clip: as in `Evaluator.denoiser`.
    """
    diffusion = evaluator.diffusion
    shape = diffusion.x_shape
    trajectories = (
        Trajectory(
            number,
            times,
            partial(image_noise, shape, seed, f"sample {number}", times[0]),
            classes[number % len(classes)] if classes else None,
        )
        for number in numbers
    )
    for step in evaluator.run(trajectories, SAMPLERS[sampler], guidance=guidance, clip=clip):
        rows, x = step.ends()
        if rows:
            yield rows, diffusion.codec.decode(x).clamp(0, 1)


@dataclass
class SampleFiles:
    """The samples that are asked for, drawn into a folder that is there, by all processes.

    Raises:
        UserError: classes that the model does not have, a classifier of others, too many steps, or
            PNGs of volumes.
    """

    evaluator: Evaluator
    options: SampleOptions
    folder: Path
    quality: SampleQuality | None

    def __post_init__(self) -> None:
        self.shape = self.evaluator.diffusion.image_shape
        self.names = self.evaluator.diffusion.classes
        self.classes = self._classes()
        self.classifier = self._classifier()
        last = self.evaluator.diffusion.schedule.num_timesteps - 1
        self.times = LevelGrid(last + 1, self.options.num_inference_steps, (last,)).times(last)
        self.calls_a_sample = (len(self.times) - 1) * (2 if self.options.guidance else 1)
        if self.options.format == "png" and len(self.shape) != 3:
            raise UserError("`format` png: the samples are volumes, expected `format` npy")

    def run(self) -> None:
        """Draw this process's share of the samples and write it; the first makes the sheet."""
        options, is_main, right = self.options, distributed.is_main(), 0
        shard = distributed.shard(range(options.num_samples))
        if said := announcement(self.evaluator, (), self.calls_a_sample * options.num_samples):
            distributed.print_once(said)
        if is_main and options.format == "npy":
            shape = (options.num_samples, *self.shape)
            np.lib.format.open_memmap(self._part, "w+", np.float32, shape).flush()
        distributed.barrier()  # the array is there
        with tqdm(total=len(shard), unit="sample", disable=None if is_main else True) as bar:
            self.evaluator.expect(len(shard) * self.calls_a_sample)
            for rows, images in draw(
                self.evaluator,
                shard,
                self.times,
                sampler=options.sampler,
                seed=options.seed,
                classes=self.classes,
                guidance=options.guidance,
                clip=options.clip_denoised,
            ):
                self._write(rows, images.cpu())
                right += self._agreeing(rows, images)
                if self.quality:
                    self.quality.add(images)
                bar.update(len(rows))
                if sentence := self.evaluator.decision():
                    distributed.print_once(sentence)
        agreeing = sum(distributed.gather(right))
        distance = self.quality.report() if self.quality else None
        if is_main:
            self._finish()
            if self.classifier is not None:
                share = 100 * agreeing / options.num_samples
                print(f"the classifier sees the class asked for in {share:.1f} %")
            if distance:
                print(distance, flush=True)
        distributed.barrier()

    def _classes(self) -> list[int]:
        """The numbers of the classes asked for."""
        asked = self.options.classes or self.names
        for name in asked:
            if name not in self.names:
                known = ", ".join(self.names) or "none, since it is unconditional"
                raise UserError(f"`classes`: found {name!r}, but the model's classes are {known}")
        if self.options.guidance and not self.names:
            raise UserError("`guidance`: the model has no classes to be guided to; leave it out")
        return [self.names.index(name) for name in asked]

    def _classifier(self) -> Classifier | None:
        path = self.options.classifier_checkpoint
        if path is None:
            return None
        network, content = load_classifier(path)
        if tuple(content["classes"]) != self.names:
            raise UserError(
                f"{path}: found a classifier of the classes {', '.join(content['classes'])}, "
                f"expected those of the diffusion model, {', '.join(self.names) or 'none'}"
            )
        prepare(network, self.evaluator.device)
        return network

    @torch.inference_mode()
    def _agreeing(self, rows: list[int], images: Tensor) -> int:
        """How many samples the classifier takes for the class that was asked for."""
        if self.classifier is None:
            return 0
        asked = torch.tensor([self.classes[row % len(self.classes)] for row in rows])
        return int((self.classifier(images)[0].argmax(1).cpu() == asked).sum())

    def _write(self, rows: list[int], images: Tensor) -> None:
        if self.options.format == "npy":
            np.lib.format.open_memmap(self._part, "r+")[rows] = images.numpy()
            return
        for row, image in zip(rows, images, strict=True):
            write_png(self._png(row), image)

    def _finish(self) -> None:
        """The array under its name, and a sheet of the first samples."""
        if self.options.format == "npy":
            self._part.replace(self.folder / ARRAY)
        columns = len(self.classes) or SHEET_COLUMNS
        count = min(self.options.num_samples // columns, SHEET_ROWS) * columns
        if count:
            panels = self._read(count).unflatten(0, (-1, columns))
            save_sheet(self.folder / "sheet.png", panels)
        print(f"{counted(self.options.num_samples, 'sample')} in {self.folder}", flush=True)

    def _read(self, count: int) -> Tensor:
        """The first samples as any process has written them, `(count, C, *S)`."""
        if self.options.format == "npy":
            array = np.load(self.folder / ARRAY, mmap_mode="r", allow_pickle=False)
            return torch.from_numpy(array[:count].copy())
        return torch.stack([read_png(self._png(number)) for number in range(count)])

    @property
    def _part(self) -> Path:
        return self.folder / f".{ARRAY}.part"

    def _png(self, number: int) -> Path:
        return self.folder / f"{number:06d}.png"
