"""A method of one's own: how long the predicted noise of an image is at a few noise levels.

    python examples/score_norm_method.py

To use it: move the class to `methods/` and add a line to `METHODS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from diffusion_ood import Diffusion, Evaluator, measure
from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.methods.base import ImageBatch, Method, Rows
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.trajectories.noise import image_noise


class ScoreNorm(Method):
    """The mean over pixels of ε̂(x_t)², x_t the image with its own noise.

    It is (1 − ᾱ)·‖∇ log p(x_t)‖² / D. The direction in which unusual images differ is not known in
    advance: a two-sided head belongs to it.

    Args:
        log_snr: ln(ᾱ / (1 − ᾱ)) of each level, for images in [−1, 1].
        seed: of the noise.
    """

    name = "score_norm"
    columns = ("eps_sq",)

    def __init__(self, log_snr: Sequence[float] = (5.0, 3.0, 1.0, -1.0), seed: int = 2) -> None:
        self.log_snr, self.seed = tuple(log_snr), seed

    def draws(self, diffusion: Diffusion) -> list[tuple[int, int]]:
        """The times nearest to the levels; images of less contrast need less noise for the same."""
        low, high = diffusion.codec.limits
        found = 2 * diffusion.schedule.half_log_snr(torch.arange(diffusion.schedule.num_timesteps))
        wanted = [level + 2 * math.log(2 / (high - low)) for level in self.log_snr]
        return [(t, 0) for t in sorted({int((found - w).abs().argmin()) for w in wanted})]

    def calls(self, diffusion: Diffusion) -> int:
        """One a level."""
        return len(self.draws(diffusion))

    def settings(self, diffusion: Diffusion) -> dict[str, object]:
        """What the numbers depend on."""
        return {"starts": [t for t, _ in self.draws(diffusion)], "seed": self.seed}

    def measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        """All images of the batch at once."""
        diffusion, shape = evaluator.diffusion, evaluator.diffusion.image_shape
        times = [t for t, _ in self.draws(diffusion)]
        noise = [image_noise(shape, self.seed, key, t) for key in batch.keys for t in times]
        x_0 = diffusion.codec.encode(batch.images).cpu().repeat_interleave(len(times), 0)
        t = torch.tensor(times * len(batch))
        eps = evaluator.eps(diffusion.schedule.add_noise(x_0, torch.stack(noise), t), t)
        values = eps.float().square().flatten(1).mean(1).cpu().reshape(len(batch), -1, 1)
        yield Rows(list(range(len(batch))), values)


MEAN, STD = 0.5, 0.1


class Gaussian(nn.Module):
    """A network that knows ε̂ of images from N(MEAN, STD²) in closed form."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """ε̂ = √(1−ᾱ)·(x − √ᾱ·MEAN) / (ᾱ·STD² + 1 − ᾱ)."""
        signal, noise = (rate.to(x) for rate in self.schedule.alpha_sigma(t.cpu(), x.ndim))
        return noise * (x - signal * MEAN) / ((signal * STD).square() + noise.square())


def main() -> None:
    """In distribution the mean of ε̂² is (1 − ᾱ) / (ᾱ·STD² + 1 − ᾱ)."""
    diffusion = Diffusion(DiffusionOptions(model_type="tiny"), (1, 16, 16))
    diffusion.network = Gaussian(diffusion.schedule)
    images = MEAN + STD * torch.randn(100, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    evaluator = Evaluator(diffusion, "cpu")
    table = measure(ScoreNorm(), images, evaluator)
    print(f"{'t':>4}{'eps_sq':>10}{'expected':>10}")
    for t, values in table.groupby("t")["eps_sq"]:
        a = diffusion.schedule.alphas_cumprod(torch.tensor([t])).item()
        print(f"{t:4}{values.mean():10.4f}{(1 - a) / (a * STD**2 + 1 - a):10.4f}")


if __name__ == "__main__":
    main()
