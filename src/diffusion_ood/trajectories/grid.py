"""The time grid and the start points on it."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ood.errors import UserError


@dataclass(frozen=True)
class TimeGrid:
    """The grid of `--num_inference_steps` on T training times, and every N-th start point of it.

    The start points are r, 2r, …, with the stride r = T // steps and the last one no later than
    T − 1. A trajectory goes down from its start point through the multiples of r and ends at t = 0,
    where the ancestor's last network call changes nothing and is left out here.
    """

    num_timesteps: int
    num_inference_steps: int
    skip: int = 1

    def __post_init__(self) -> None:
        if self.num_inference_steps > self.num_timesteps:
            raise UserError(
                f"--num_inference_steps: found {self.num_inference_steps}, "
                f"expected at most the model's {self.num_timesteps} training steps"
            )

    @property
    def stride(self) -> int:
        """Training times a step."""
        return self.num_timesteps // self.num_inference_steps

    @property
    def starts(self) -> tuple[int, ...]:
        """The start points, rising."""
        last = self.num_timesteps - 1
        steps = range(1, self.num_inference_steps + 1)
        return tuple(min(k * self.stride, last) for k in steps)[:: self.skip]

    def times(self, start: int) -> tuple[int, ...]:
        """The times of the trajectory from `start`: falling, first `start`, last 0."""
        first_multiple = (start - 1) // self.stride * self.stride
        return (start, *range(first_multiple, -1, -self.stride))

    @property
    def calls(self) -> int:
        """Network calls an image: the steps of all its trajectories together."""
        return sum(len(self.times(start)) - 1 for start in self.starts)
