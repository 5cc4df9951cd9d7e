"""Pictures between pairs of images (DiffOOD's runner `interpolation`).

Both images of a pair are led up to the noise that they come from. Then, for levels from a tenth to
nine tenths of the grid: the first image with the second one's noise is led down from the level
(img1), the second with the first one's (img2), and from the top what lies between both noises, the
same part of the way (img3). The images themselves are img100 and img200.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_ood.data.pictures import save_sheet, write_png
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.errors import UserError
from diffusion_ood.methods.cost import announcement
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.words import counted
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.evaluator import Evaluator

PARTS = 10  # of the way; the levels lie between them
SHEET_PAIRS = 4


class Interpolation:
    """What lies between pairs of images, by a key of `SAMPLERS` and steps of the whole time grid.

    Raises:
        UserError: steps that the levels do not divide, a sampler that cannot go up, or volumes.
    """

    def __init__(self, evaluator: Evaluator, sampler: str, steps: int) -> None:
        self.evaluator = evaluator
        self.sampler = SAMPLERS[sampler]
        diffusion = evaluator.diffusion
        if steps % PARTS or steps > diffusion.schedule.num_timesteps:
            raise UserError(
                f"`num_inference_steps`: found {steps}, expected a multiple of {PARTS}, at most "
                f"{diffusion.schedule.num_timesteps}"
            )
        if not self.sampler.encodes:
            able = [name for name in SAMPLERS if SAMPLERS[name].encodes]
            raise UserError(
                f"`sampler`: found {sampler}, which cannot lead an image up to its noise, expected "
                f"one of {', '.join(able)}"
            )
        if len(diffusion.image_shape) != 3:
            raise UserError("`checkpoint`: found a model of volumes, expected images")
        self.up = encoding_times(diffusion.schedule.num_timesteps, steps)
        self.levels = [part * steps // PARTS for part in range(1, PARTS)]  # places in `up`

    def save(self, images: Tensor, folder: Path) -> None:
        """Draw this process's pairs of images `(2 · pairs, C, H, W)` in [0, 1] into a folder.

        The first process makes the sheet, of pairs of its own.
        """
        sheet: list[Tensor] = []
        num_pairs, is_main = len(images) // 2, distributed.is_main()
        shard = distributed.shard(range(num_pairs))
        calls_a_pair = 3 * PARTS * len(self.up)
        self.evaluator.expect(len(shard) * calls_a_pair)
        if said := announcement(self.evaluator, (), num_pairs * calls_a_pair):
            distributed.print_once(said)
        for pair in tqdm(shard, unit="pair", disable=None if is_main else True):
            first, second = images[2 * pair], images[2 * pair + 1]
            write_png(folder / f"img100-{pair}.png", first)
            write_png(folder / f"img200-{pair}.png", second)
            between = self.between(first, second)
            for row, pictures in enumerate(between, start=1):
                for level, picture in zip(self.levels, pictures, strict=True):
                    write_png(folder / f"img{row}-{pair}-{level}.png", picture)
            if is_main and len(sheet) < 3 * SHEET_PAIRS:
                ends = (first, second), (second, first), (first, second)
                sheet += [
                    torch.stack([a, *pictures, b])
                    for (a, b), pictures in zip(ends, between, strict=True)
                ]
            if sentence := self.evaluator.decision():
                distributed.print_once(sentence)
        if is_main:
            save_sheet(folder / "sheet.png", torch.stack(sheet))
            print(f"{counted(num_pairs, 'pair')} in {folder}", flush=True)
        distributed.barrier()

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Three rows of pictures in [0, 1], `(3, PARTS − 1, C, H, W)` on the CPU."""
        diffusion = self.evaluator.diffusion
        clean = diffusion.codec.encode(torch.stack([first, second]).to(self.evaluator.device))
        noises = self._lead([(x, self.up) for x in clean])
        starts = []
        for image, noise in zip(clean, noises.flip(0), strict=True):  # the other one's
            for level in self.levels:
                t = torch.tensor([self.up[level]])
                x_t = diffusion.schedule.add_noise(image[None], noise[None], t)[0]
                starts.append((x_t, self.up[level::-1]))
        shares = [level / len(self.up) for level in self.levels]
        starts += [(slerp(noises[0], noises[1], share), self.up[::-1]) for share in shares]
        pictures = diffusion.codec.decode(self._lead(starts)).clamp(0, 1).cpu()
        return pictures.unflatten(0, (3, len(self.levels)))

    def _lead(self, starts: list[tuple[Tensor, tuple[int, ...]]]) -> Tensor:
        """Where trajectories with these starts and times end, `(n, c, h, w)` on the device."""
        trajectories = [Trajectory(row, times, x.clone) for row, (x, times) in enumerate(starts)]
        ends = torch.empty(len(starts), *starts[0][0].shape, device=self.evaluator.device)
        longest_first = sorted(trajectories, key=lambda trajectory: -len(trajectory.times))
        for step in self.evaluator.run(longest_first, self.sampler):
            rows, x = step.ends()
            ends[rows] = x
        return ends


def encoding_times(num_timesteps: int, steps: int) -> tuple[int, ...]:
    """The times from the clean image up to the noise that it comes from: CLEAN, δ, …, (steps−1)·δ.

    Passed the other way they decode. With δ = T // steps, as the levels of a reconstruction have.
    """
    stride = num_timesteps // steps
    return (CLEAN, *range(stride, steps * stride, stride))


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """`(sin((1−w)θ)·a + sin(wθ)·b) / sin θ`, θ the angle between the two (Shoemake 1985).

    Args:
        a, b: shape `(C, *S)`, of one image each; the angle is that of this pair alone.
        share: w, from 0 (a) to 1 (b).
    """
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(a, b, share)
    from_a, from_b = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return (from_a * a + from_b * b) / torch.sin(angle)
