"""Draw samples from a trained diffusion model: exactly as many as asked for.

Reads a checkpoint; writes PNGs or an array, and sheet.png with the first of them, to
output_dir/model_name/samples or --image_path. Sample number i depends on the seed and i alone,
whatever the batch size and the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands.drawing import Drawing, read_png, write_png
from diffusion_ood.commands.measuring import save_sheet
from diffusion_ood.commands.sample_quality import SampleQuality
from diffusion_ood.errors import UserError
from diffusion_ood.networks.resnet import Classifier
from diffusion_ood.options import ComputeOptions, LoadingOptions, RunOptions, SampleOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.lock import locked
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.grid import LevelGrid
from diffusion_ood.trajectories.noise import image_noise

GROUPS = (RunOptions, SampleOptions, LoadingOptions, ComputeOptions)

SHEET_ROWS, SHEET_COLUMNS = 8, 10
ARRAY = "samples.npy"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    with distributed.process_group(line[ComputeOptions].device) as device:
        sampling = _Sampling(line, device)
        with locked(sampling.folder, leftovers=".*.tmp"):
            sampling.run()


class _Sampling:
    """A loaded model, and the samples that are asked of it."""

    def __init__(self, line: cli.CommandLine, device: torch.device) -> None:
        self.line = line
        self.device = device
        self.options = line[SampleOptions]
        run_dir = line[RunOptions].run_dir
        self.folder = self.options.image_path or run_dir / "samples"
        path = run_directory.checkpoint_path(run_dir, self.options.eval_checkpoint)
        self.drawing = Drawing(
            path,
            self.options.sampler,
            line[ComputeOptions],
            device,
            max_batch=self.options.max_batch,
            guidance=self.options.guidance,
            clip=self.options.clip_denoised,
        )
        self.model = self.drawing.model
        self.names = tuple(self.drawing.content.get("classes", ()))
        self.classes = self._classes()
        self.classifier = self._classifier()
        self.quality = None
        if self.options.reference_ids is not None:
            self.quality = SampleQuality(
                self.options,
                self.drawing.image_options,
                self.model.image_shape,
                line[LoadingOptions],
                run_dir / "quality",
                device,
            )
        steps = self.options.num_inference_steps
        last = self.model.schedule.num_timesteps - 1
        self.times = LevelGrid(last + 1, steps, (last,)).times(last)

    def run(self) -> None:
        """Draw this process's share of the samples and write it; the first makes the sheet."""
        numbers = list(range(self.options.num_samples))
        mine, right = distributed.share_of(numbers), 0
        write = self._writer()
        distributed.barrier()  # the folder, and the array in it, are there
        with tqdm(
            total=len(mine), unit="sample", disable=None if distributed.is_main() else True
        ) as bar:
            self.drawing.expect(len(mine), len(self.times) - 1)
            for rows, images in self._draw(mine):
                for number, image in zip(rows, images.cpu(), strict=True):
                    write(number, image)
                right += self._agreeing(rows, images)
                if self.quality:
                    self.quality.add(images)
                bar.update(len(rows))
        total = distributed.sum_over_processes(torch.tensor(float(right), device=self.device))
        distance = self.quality.report() if self.quality else ""
        if distributed.is_main():
            self._finish(total.item() / len(numbers))
            print(distance, end="\n" if distance else "", flush=True)
        distributed.barrier()

    def label(self, number: int) -> int | None:
        """The class of sample `number`: each in turn."""
        return self.classes[number % len(self.classes)] if self.classes else None

    @torch.inference_mode()
    def _draw(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Samples of these numbers as they are finished, `(n, C, *S)` in [0, 1]."""
        shape, seed = self.model.image_shape, self.options.seed
        trajectories = (
            Trajectory(
                number,
                self.times,
                partial(image_noise, shape, seed, f"sample {number}", self.times[0]),
                self.label(number),
            )
            for number in numbers
        )
        for rows, x in self.drawing.run(trajectories):
            yield rows, self.model.codec.decode(x).clamp(0, 1)

    def _classes(self) -> list[int]:
        """The numbers of the classes asked for."""
        asked = self.options.classes or self.names
        for name in asked:
            if name not in self.names:
                known = ", ".join(self.names) or "none, since it is unconditional"
                raise UserError(f"--classes: found {name!r}, but the model's classes are {known}")
        if self.options.guidance and not self.names:
            raise UserError("--guidance: the model has no classes to be guided to; leave it out")
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
        prepare(network, self.device)
        return network

    @torch.inference_mode()
    def _agreeing(self, rows: list[int], images: Tensor) -> int:
        """How many samples the classifier takes for the class that was asked for."""
        if self.classifier is None:
            return 0
        asked = torch.tensor([self.label(number) for number in rows])
        return int((self.classifier(images)[0].argmax(1).cpu() == asked).sum())

    def _writer(self) -> Callable[[int, Tensor], None]:
        """A function that keeps sample number i, `(C, *S)` in [0, 1]."""
        if self.options.format == "png":
            if len(self.model.image_shape) != 3:
                raise UserError("--format png: the samples are volumes, expected --format npy")
            return lambda number, image: write_png(self._png(number), image)
        if distributed.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            shape = (self.options.num_samples, *self.model.image_shape)
            np.lib.format.open_memmap(self._part, "w+", np.float32, shape).flush()
        distributed.barrier()
        array = np.lib.format.open_memmap(self._part, "r+")

        def write(number: int, image: Tensor) -> None:
            array[number] = image.numpy()

        return write

    @property
    def _part(self) -> Path:
        return self.folder / f".{ARRAY}.part"

    def _finish(self, agreement: float) -> None:
        """The array under its name, a sheet of the first samples, and what is to be said."""
        if self.options.format == "npy":
            self._part.replace(self.folder / ARRAY)
        columns = len(self.classes) or SHEET_COLUMNS
        count = min(self.options.num_samples // columns, SHEET_ROWS) * columns
        if count:
            cells = torch.stack([self._read(number) for number in range(count)])
            save_sheet(self.folder / "sheet.png", cells.unflatten(0, (-1, columns)))
        print(f"{self.options.num_samples} samples are in {self.folder}", flush=True)
        if self.classifier is not None:
            print(f"the classifier sees the class asked for in {100 * agreement:.1f} %")

    def _read(self, number: int) -> Tensor:
        """Sample `number` as any process has written it, `(C, *S)`."""
        if self.options.format == "npy":
            array = np.load(self.folder / ARRAY, mmap_mode="r", allow_pickle=False)
            return torch.from_numpy(array[number].copy())
        return read_png(self._png(number))

    def _png(self, number: int) -> Path:
        return self.folder / f"{number:06d}.png"
