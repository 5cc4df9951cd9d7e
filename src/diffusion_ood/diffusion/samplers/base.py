"""What a sampler is, and the deterministic step that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from diffusion_ood.diffusion.denoiser import Denoiser
from diffusion_ood.diffusion.schedule import NoiseSchedule
from diffusion_ood.runtime.transfers import to_like

NO_STEP = -2
"""The time of a step that a trajectory has not made."""


@dataclass
class BatchDenoiser:
    """A denoiser as a sampler asks it: it knows the classes of the rows and keeps its first answer.

    Attributes:
        denoiser: gives ε̂.
        labels: the class of each row, where they have one.
        first: ε̂ of the whole batch at the step's start, which every sampler asks for first.
    """

    denoiser: Denoiser
    labels: Tensor | None = None
    first: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor, rows: Tensor | None = None, /) -> Tensor:
        """ε̂ of shape `(n, C, *S)`.

        Args:
            x_t: shape `(n, C, *S)`.
            t: times, shape (n,), on the CPU.
            rows: which rows of the batch these are, a boolean (B,) on the CPU; None is all of them.
        """
        labels = self.labels if self.labels is None or rows is None else self.labels[rows]
        eps = self.denoiser(x_t, t, labels)
        if self.first is None:
            self.first = eps
        return eps


@dataclass(frozen=True)
class State:
    """What a step of B trajectories starts from, each a row that is independent of the others.

    Attributes:
        schedule: the noise schedule.
        x_t: shape `(B, C, *S)`.
        t, s: times now and next, shape (B,), t ≠ s ≥ −1, on the CPU.
        past: what the sampler's last `memory` steps returned to be remembered, newest first, shape
            `(memory, B, C, *S)`; entries older than the trajectory are zero.
        past_t: the times at which those steps began, shape `(memory, B)`, on the CPU; `NO_STEP`
            where the trajectory has made fewer.
    """

    schedule: NoiseSchedule
    x_t: Tensor
    t: Tensor
    s: Tensor
    past: Tensor
    past_t: Tensor

    @property
    def age(self) -> Tensor:
        """The number of steps (B,) that each row has made, counted up to the sampler's memory."""
        return (self.past_t != NO_STEP).sum(0)

    def ddim_step(self, eps: Tensor) -> Tensor:
        """x_s by `ddim_step`, with this ε̂ or slope of shape `(B, C, *S)`."""
        return ddim_step(self.schedule, self.x_t, eps, self.t, self.s)


class Sampler(Protocol):
    """One step of a reverse trajectory, for a batch of rows."""

    memory: int = 0
    """How many of its own past outputs the sampler wants to see again."""

    encodes: bool = True
    """Whether it can also go up, from the clean image on."""

    def calls(self, num_steps: int) -> int:
        """Network calls of a trajectory of so many steps; here one a step."""
        return num_steps

    def step(self, denoiser: BatchDenoiser, now: State) -> tuple[Tensor, Tensor]:
        """Go from `x_t` to `x_s`; the first evaluation is ε̂(x_t, t) of the whole batch.

        Args:
            denoiser: gives ε̂ of shape `(B, C, *S)`.
            now: where the step starts, and where it goes.

        Returns:
            x_s, and what to remember of this step, both of shape `(B, C, *S)`.
        """


def ddim_step(schedule: NoiseSchedule, x_t: Tensor, eps: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Deterministic step `x_s = √ᾱ_s · x̂_0 + √(1 − ᾱ_s) · ε̂` (Song et al. 2021, eq. 12, η = 0).

    Written as `x_t` scaled plus `ε̂` scaled, which changes nothing at s = t. There is no clipping.
    """
    signal_t, noise_t = schedule.alpha_sigma(t, x_t.ndim)
    signal_s, noise_s = schedule.alpha_sigma(s, x_t.ndim)
    scale = signal_s / signal_t
    return to_like(scale, x_t) * x_t + to_like(noise_s - scale * noise_t, x_t) * eps
