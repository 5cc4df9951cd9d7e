"""Interpolate between pairs of images, as the second system's runner `interpolation`.

Both images of a pair are led up to the noise that they come from. Then, for levels from a tenth to
nine tenths of the grid: the first image with the second one's noise is led down from the level
(img1), the second with the first one's (img2), and from the top what lies between both noises, the
same part of the way (img3). The images themselves are img100 and img200.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood import cli
from diffusion_ood.commands.drawing import Drawing, write_png
from diffusion_ood.commands.measuring import save_sheet
from diffusion_ood.data.loaders import open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ComputeOptions, InterpolationOptions, LoadingOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.interpolation import encoding_times, slerp

GROUPS = (InterpolationOptions, LoadingOptions, ComputeOptions)

PARTS = 10  # of the way; the levels lie between them
SHEET_PAIRS = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments."""
    line = cli.parse(__doc__, GROUPS, argv)
    with distributed.process_group(line[ComputeOptions].device) as device:
        _Interpolation(line, device).run()


class _Interpolation:
    """A model, and the pairs of images that it leads between."""

    def __init__(self, line: cli.CommandLine, device: torch.device) -> None:
        self.options = line[InterpolationOptions]
        self.drawing = Drawing(
            self.options.checkpoint,
            self.options.sampler,
            line[ComputeOptions],
            device,
            max_batch=self.options.max_batch,
        )
        self.model = self.drawing.model
        self.steps = self.options.num_inference_steps
        if self.steps % PARTS or self.steps > self.model.schedule.num_timesteps:
            raise UserError(
                f"--num_inference_steps: found {self.steps}, expected a multiple of {PARTS}, at "
                f"most {self.model.schedule.num_timesteps}"
            )
        if len(self.model.image_shape) != 3:
            raise UserError(f"{self.options.checkpoint}: found a model of volumes, expected images")
        split = read_split(self.options.image_ids).first(2 * self.options.num_pairs)
        if len(split) < 2 * self.options.num_pairs:
            raise UserError(
                f"{split.path}: found {len(split)} images, expected at least "
                f"{2 * self.options.num_pairs} for --num_pairs {self.options.num_pairs}"
            )
        images = open_images(split, self.drawing.image_options, line[LoadingOptions])
        if images.shape != self.model.image_shape:
            raise UserError(
                f"{split.path}: found images of {images.shape}, expected "
                f"{self.model.image_shape} like the model's"
            )
        self.images = images.batch(range(len(split)))
        self.up = encoding_times(self.model.schedule.num_timesteps, self.steps)

    def run(self) -> None:
        """Draw this process's pairs; the first process makes the sheet, of pairs of its own."""
        folder = self.options.image_path
        sheet: list[Tensor] = []
        mine = distributed.share_of(list(range(self.options.num_pairs)))
        show = distributed.is_main()
        self.drawing.expect(len(mine) * 3 * PARTS, len(self.up))
        for pair in tqdm(mine, unit="pair", disable=None if show else True):
            first, second = self.images[2 * pair], self.images[2 * pair + 1]
            write_png(folder / f"img100-{pair}.png", first)
            write_png(folder / f"img200-{pair}.png", second)
            between = self._between(first, second)
            for row, pictures in enumerate(between, start=1):
                for part, picture in enumerate(pictures, start=1):
                    number = part * self.steps // PARTS
                    write_png(folder / f"img{row}-{pair}-{number}.png", picture)
            if show and len(sheet) < 3 * SHEET_PAIRS:
                ends = (first, second), (second, first), (first, second)
                sheet += [
                    torch.stack([a, *pictures, b])
                    for (a, b), pictures in zip(ends, between, strict=True)
                ]
        if show:
            save_sheet(folder / "sheet.png", torch.stack(sheet))
            print(f"{self.options.num_pairs} pairs are in {folder}", flush=True)
        distributed.barrier()

    def _between(self, first: Tensor, second: Tensor) -> Tensor:
        """Three rows of pictures in [0, 1], `(3, PARTS − 1, C, H, W)` on the CPU."""
        clean = self.model.codec.encode(torch.stack([first, second]))
        noises = self._lead([(x, self.up) for x in clean])
        levels = [part * self.steps // PARTS for part in range(1, PARTS)]
        starts = []
        for image, noise in ((clean[0], noises[1]), (clean[1], noises[0])):
            for level in levels:
                down = self.up[level::-1]
                t = torch.tensor([down[0]])
                x_t = self.model.schedule.add_noise(image[None], noise[None], t)[0]
                starts.append((x_t, down))
        top = self.up[::-1]
        starts += [(slerp(noises[0], noises[1], level / self.steps), top) for level in levels]
        pictures = self.model.codec.decode(self._lead(starts)).clamp(0, 1)
        return pictures.unflatten(0, (3, len(levels)))

    def _lead(self, starts: list[tuple[Tensor, tuple[int, ...]]]) -> Tensor:
        """Where trajectories with these starts and times end, `(n, C, H, W)` on the CPU."""
        trajectories = [Trajectory(row, times, x.clone) for row, (x, times) in enumerate(starts)]
        ends = torch.empty(len(starts), *self.model.image_shape)
        for rows, x in self.drawing.run(sorted(trajectories, key=lambda row: -len(row.times))):
            ends[rows] = x.cpu()
        return ends
