"""Methods that ask the network once about each of some points, and nothing that follows from it.

A point is an image at a noise level with one draw of noise, perhaps moved or flipped. Methods say
which points they want by values that compare equal, so that several methods share the calls of
those that they have in common: together they cost the union.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import HIGHEST, LOWEST, even_levels
from diffusion_ood.methods.base import ImageBatch, Method, Rows
from diffusion_ood.methods.forms import Forms
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import NUM_LEVELS
from diffusion_ood.runtime.ahead import made_ahead, threads_for
from diffusion_ood.runtime.transfers import to_like
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.noise import image_noise

if TYPE_CHECKING:
    from typing_extensions import Self

STEP = 3e-3
"""How far a probe moves each value: in fp32, central differences are then right to 0.1 %."""

MAX_VALUES = 2**26
"""Numbers of points that are held at a time; images are taken in smaller parts above it."""


@dataclass(frozen=True)
class Point:
    """Where the network is asked about an image.

    Attributes:
        t: the noise level.
        repeat: number of the draw of noise, and of the probe, there.
        noise: whether there is noise at all: x_t = √ᾱ x_0 + √(1−ᾱ) ε, or √ᾱ x_0.
        probe: ±1 moves x_t by `STEP` along a Rademacher vector of the image's own.
        flip: axes of `(C, *S)` along which x_t is turned round.
        exact: whether the answer has to be in fp32 whatever the precision of others.
    """

    t: int
    repeat: int = 0
    noise: bool = True
    probe: int = 0
    flip: tuple[int, ...] = ()
    exact: bool = False


@dataclass(eq=False)
class Answer:
    """What the network says at a point, of n images.

    Args:
        diffusion: the model.
        t: the noise level.
        x_t: where it was asked, `(n, c, *s)`.
        eps: ε̂, `(n, c, *s)`.
        statistics: of the blocks that were asked for, by their names: each channel's means over a
            grid of places and its deviation over all, `(n, channels, places + 1)`.
    """

    diffusion: Diffusion
    t: int
    x_t: Tensor
    eps: Tensor
    statistics: Mapping[str, Tensor]

    @cached_property
    def x_0(self) -> Forms:
        """x̂_0, decoded once for all methods that compare it."""
        return Forms(self.diffusion.codec, predicted(self.diffusion, self.t, self.x_t, self.eps))


Answers = Mapping[Point, Answer]


class PointwiseMethod(Method):
    """A method whose first questions are known before any answer; most ask no others.

    Attributes:
        seed: of the noise.
    """

    seed: int

    @abstractmethod
    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """Where it asks the network, each point once."""

    def blocks(self, diffusion: Diffusion) -> Sequence[str]:
        """Names of blocks of the network whose statistics it wants at its points."""
        return ()

    @abstractmethod
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """The numbers of n images, `(n, draws, columns)`; `answers` has the method's points."""

    def further_calls(self, diffusion: Diffusion) -> int:
        """Network calls an image that `compute` makes, which follow from the answers."""
        return 0

    def calls(self, diffusion: Diffusion) -> int:
        """Network calls an image: one a point, and those that follow."""
        return len(self.points(diffusion)) + self.further_calls(diffusion)

    def measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        """See `Method`."""
        for _, rows in measure_together([self], batch, evaluator):
            yield rows


@dataclass(kw_only=True, eq=False)
class EvenMethod(PointwiseMethod):
    """A method at levels that are even in log-SNR, which has a row for each of its draws.

    Args:
        num_levels: how many levels.
        ends: the highest and the lowest log-SNR, as those of images in [−1, 1].
        repeats: draws of noise at each level.
        seed: of the noise.
    """

    num_levels: int = NUM_LEVELS
    ends: tuple[float, float] = (HIGHEST, LOWEST)
    repeats: int = 1
    seed: int = 2

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Self:
        """As `reconstruct.py` is asked for it."""
        return cls(num_levels=options.num_levels, repeats=options.repeats or 1, seed=options.seed)

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level and repeat."""
        levels = even_levels(diffusion.schedule, diffusion.codec.limits, self.num_levels, self.ends)
        return [(t, k) for t in levels for k in range(self.repeats)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, the columns and the seed."""
        draws = [list(draw) for draw in self.draws(diffusion)]
        return {"draws": draws, "columns": list(self.columns), "seed": self.seed}


def shared_calls(methods: Sequence[Method], diffusion: Diffusion) -> int:
    """Network calls an image of all methods together."""
    pointwise = [method for method in methods if isinstance(method, PointwiseMethod)]
    points = sum(len(method.points(diffusion)) for method in pointwise)
    return (
        sum(method.calls(diffusion) for method in methods)
        - points
        + len(_union(pointwise, diffusion, "fp32"))
    )


def measure_together(
    methods: Sequence[PointwiseMethod], batch: ImageBatch, evaluator: Evaluator
) -> Iterator[tuple[PointwiseMethod, Rows]]:
    """The rows of each method, which ask the network once about each point of any of them.

    Methods that share their calls have the same seed.
    """
    diffusion = evaluator.diffusion
    wanted = _union(methods, diffusion, evaluator.precision)
    values = max(1, len(wanted)) * max(map(math.prod, (diffusion.x_shape, diffusion.image_shape)))
    size = max(1, MAX_VALUES // (2 * values))
    for start in range(0, len(batch), size):
        part = batch.part(range(start, min(start + size, len(batch))))
        answers = ask(methods, part, evaluator)
        for method in methods:
            points = method.points(diffusion)
            own = {point: answers[_asked(point, evaluator.precision)] for point in points}
            measured = method.compute(part, evaluator, own)
            yield method, Rows(list(range(start, start + len(part))), measured.float().cpu())


def _union(
    methods: Sequence[PointwiseMethod], diffusion: Diffusion, precision: str
) -> dict[Point, set[str]]:
    """Every point that one of the methods wants, and the blocks that are wanted there."""
    found: dict[Point, set[str]] = {}
    for method in methods:
        for point in method.points(diffusion):
            blocks = found.setdefault(_asked(point, precision), set())
            blocks.update(method.blocks(diffusion))
    return found


def _asked(point: Point, precision: str) -> Point:
    """The point as it is asked about: in fp32 every answer is exact."""
    return replace(point, exact=False) if precision == "fp32" else point


@torch.inference_mode()
def ask(
    methods: Sequence[PointwiseMethod], batch: ImageBatch, evaluator: Evaluator
) -> dict[Point, Answer]:
    """The network's answers at every point that one of the methods wants.

    They are asked about in one go, those that have to be exact in another.
    """
    wanted = _union(methods, evaluator.diffusion, evaluator.precision)
    seed = methods[0].seed
    assert all(method.seed == seed for method in methods), "the noise of shared calls is one"
    diffusion, x_0 = evaluator.diffusion, batch.forms(evaluator.diffusion).x
    # What one point wants of the network's blocks all get: one network has to be compiled then.
    names = sorted(set().union(*wanted.values()))
    kinds: dict[bool, list[Point]] = {}
    for point in wanted:
        kinds.setdefault(point.exact, []).append(point)
    answers: dict[Point, Answer] = {}
    for exact, points in kinds.items():
        # Of a GPU's points the noise is made while it still has other work.
        drawn = made_ahead(
            points,
            partial(_drawn, batch.keys, x_0.shape[1:], seed),
            len(points),
            threads_for(x_0.device),
        )
        x_t = torch.cat([_place(*of_one, x_0, evaluator) for of_one in drawn])
        t = torch.tensor([point.t for point in points]).repeat_interleave(len(batch))
        eps, statistics = evaluator.observe(x_t, t, names, exact=exact)
        per_point = [part.split(len(batch)) for part in (x_t, eps, *statistics.values())]
        for number, point in enumerate(points):
            x, found, *rest = (parts[number] for parts in per_point)
            of_point = dict(zip(statistics, rest, strict=True))
            of_blocks = {name: of_point[name] for name in names if name in wanted[point]}
            answers[point] = Answer(diffusion, point.t, x, found, of_blocks)
    return answers


def _drawn(
    keys: Sequence[str], shape: Sequence[int], seed: int, point: Point
) -> tuple[Tensor, Tensor]:
    """The noise and the probe of each image at a point, empty where it has none, on the CPU."""
    none = torch.empty(0)
    return (
        _noise(keys, shape, seed, point) if point.noise else none,
        _probe(keys, shape, seed, point) if point.probe else none,
    )


def _place(point: Point, drawn: tuple[Tensor, Tensor], x_0: Tensor, evaluator: Evaluator) -> Tensor:
    """Where the network is asked, `(n, c, *s)`."""
    noise, probe = (to_like(part, x_0) for part in drawn)
    t = torch.full((len(x_0),), point.t)
    eps = noise if point.noise else torch.zeros_like(x_0)
    x_t = evaluator.diffusion.schedule.add_noise(x_0, eps, t)
    if point.probe:
        x_t = x_t + point.probe * STEP * probe
    return evaluator.diffusion.codec.flip(x_t, point.flip) if point.flip else x_t


def _noise(keys: Sequence[str], shape: Sequence[int], seed: int, point: Point) -> Tensor:
    return torch.stack([image_noise(tuple(shape), seed, k, point.t, point.repeat) for k in keys])


def _probe(keys: Sequence[str], shape: Sequence[int], seed: int, point: Point) -> Tensor:
    return _noise([f"{key}\0probe" for key in keys], shape, seed, point).sign()


def noise_of(batch: ImageBatch, x_0: Tensor, seed: int, point: Point) -> Tensor:
    """The noise ε of each image at a point, `(n, c, *s)`."""
    return to_like(_noise(batch.keys, x_0.shape[1:], seed, point), x_0)


def probe_of(batch: ImageBatch, x_0: Tensor, seed: int, point: Point) -> Tensor:
    """The Rademacher vector v of each image at a point, ±1 `(n, c, *s)`."""
    return to_like(_probe(batch.keys, x_0.shape[1:], seed, point), x_0)


def at_level(diffusion: Diffusion, t: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1−ᾱ_t), which multiply tensors like this one."""
    signal, noise = diffusion.schedule.alpha_sigma(torch.tensor([t]), like.ndim)
    return to_like(signal, like), to_like(noise, like)


def predicted(diffusion: Diffusion, t: int, x_t: Tensor, eps: Tensor) -> Tensor:
    """x̂_0 of ε̂ at level t, `(n, c, *s)` (Ho et al. 2020, equation 15)."""
    signal, noise = at_level(diffusion, t, eps)
    return (x_t - noise * eps) / signal
