"""Noise images to every start point and reconstruct them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.samplers.base import Sampler
from diffusion_ood.diffusion.schedule import CLEAN
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories
from diffusion_ood.trajectories.grid import Grid
from diffusion_ood.trajectories.noise import image_noise
from diffusion_ood.trajectories.order import in_order
from diffusion_ood.trajectories.rounding import exact_below


@torch.inference_mode()
def reconstruct(
    model: Diffusion,
    denoiser: Denoiser,
    sampler: Sampler,
    grid: Grid,
    images: Tensor,
    keys: Sequence[str],
    seed: int,
    max_batch: int,
    *,
    exact: Denoiser | None = None,
    repeats: int = 1,
    shared_noise: bool = False,
    labels: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Reconstructions of every image from every start point, as they are finished.

    Args:
        model: gives the schedule and the range of the images.
        denoiser: gives ε̂ on the device of `images`.
        sampler: makes the steps.
        grid: the start points and the times below them.
        images: shape `(B, C, *S)` in [0, 1].
        keys: each image's path as written in its split; its noise depends on it.
        seed: of the noise.
        max_batch: trajectories in one network call.
        exact: gives ε̂ without the rounding of bf16, where `denoiser` does not and a trajectory
            needs it; see `trajectories.rounding`.
        repeats: draws of noise at each start point.
        shared_noise: whether a repeat's noise is the same at all start points of an image.
        labels: the class that each image is taken for, shape (B,), if any.

    Yields:
        The numbers of n images, (n,), of their slots, (n,), and their reconstructions
        `(n, C, *S)` in [0, 1]. Slot k · repeats + r is repeat r at the start point number k.
    """
    x_0 = model.codec.encode(images.cpu())
    starts, slots = grid.starts, len(grid.starts) * repeats
    times = [grid.times(start) for start in starts]  # once, not for every image
    below = [exact_below(model.schedule, sampler, start) for start in starts]
    classes: list[int | None] = [None] * len(images) if labels is None else labels.tolist()
    waiting = (
        Trajectory(
            image * slots + k * repeats + repeat,
            times[k],
            partial(_noisy, model, x_0[image], keys[image], starts[k], repeat, shared_noise, seed),
            classes[image],
            below[k],
        )
        for image, k in in_order(len(images), [len(passed) - 1 for passed in times], max_batch)
        for repeat in range(repeats)
    )
    for rows, x in run_trajectories(
        denoiser, model.schedule, sampler, waiting, images.device, max_batch, exact
    ):
        number = torch.tensor(rows)
        yield number // slots, number % slots, model.codec.decode(x).clamp(0, 1)


def _noisy(
    model: Diffusion,
    x_0: Tensor,
    key: str,
    t: int,
    repeat: int,
    shared_noise: bool,
    seed: int,
) -> Tensor:
    """An image `(C, *S)` in the model's range with its own noise of this start point and repeat."""
    eps = image_noise(x_0.shape, seed, key, CLEAN if shared_noise else t, repeat)
    return model.schedule.add_noise(x_0[None], eps[None], torch.tensor([t]))[0]
