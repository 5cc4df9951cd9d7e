"""What a method is, and the batch of images that it measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from diffusion_ood.methods.forms import Forms
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass(frozen=True)
class ImageBatch:
    """B images that are measured together.

    Attributes:
        images: shape `(B, C, *S)` in [0, 1], on the evaluator's device.
        keys: of each image; its noise depends on it.
        classes: of each image, shape (B,), on the CPU, where they are known.
    """

    images: Tensor
    keys: Sequence[str]
    classes: Tensor | None = None
    _forms: list[Forms] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def forms(self, diffusion: Diffusion) -> Forms:
        """The images as the model sees them, encoded once for all who ask; always of one model."""
        if not self._forms:
            encoded = diffusion.codec.encode(self.images)
            self._forms.append(Forms(diffusion.codec, encoded, self.images))
        return self._forms[0]

    def part(self, numbers: range) -> ImageBatch:
        """Some of these images."""
        chosen = slice(numbers.start, numbers.stop)
        classes = None if self.classes is None else self.classes[chosen]
        return ImageBatch(self.images[chosen], self.keys[chosen], classes)


@dataclass(frozen=True)
class Rows:
    """Everything that was measured of n images of a batch.

    Attributes:
        images: their numbers in the batch.
        measured: float32 on the CPU, shape `(n, draws, columns)`.
    """

    images: list[int]
    measured: Tensor


class Method(Protocol):
    """What is measured of an image: raw numbers, in columns, for each of its draws.

    A draw is a noise level t and the number of a repeat there: a row of the table. Numbers must not
    depend on the other images of a batch.
    """

    name: str
    """Of its folder of tables."""

    def __str__(self) -> str:
        return self.name

    needs_classes: bool = False
    """Whether it asks for the true classes of the images."""

    directed: bool = True
    """Whether larger numbers are the more unusual ones; else it may be either way."""

    learns: bool = False
    """Whether it has to learn from reference images before it measures others."""

    form: str = ""
    """In which it keeps what it learned, where another was in use before."""

    learned: str = ""
    """What tells what it learned from what it would have of other images."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its table."""

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Method:
        """The method as `reconstruct.py` is asked for it; here without any options.

        Raises:
            UserError: options that do not go together, or files that are not what they should be.
        """
        return cls()

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """What its numbers depend on beside the model and the precision; JSON values."""
        return {}

    def check(self, diffusion: Diffusion) -> None:
        """Raise a `UserError` where this method cannot measure with the model."""
        return  # of its own, or a type checker would ask every method for one

    def learn(self, batches: Iterable[ImageBatch], evaluator: Evaluator) -> None:
        """Learn from reference images; UserError where there are too few."""
        return  # as in `check`

    def state_dict(self) -> dict[str, Any]:
        """What it learned, as arrays by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        return  # as in `check`

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """(t, repeat) of each row of an image, rising."""

    def calls(self, diffusion: Diffusion) -> int:
        """Network calls an image."""

    def measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        """The images of a batch as they are finished, each once, in any order."""
