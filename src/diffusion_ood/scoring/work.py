"""A set whose images are open, and what methods still have to measure of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.detection.table_writer import TableWriter
from diffusion_ood.methods.base import ImageBatch, Method, Rows
from diffusion_ood.methods.measure import content_key, finished
from diffusion_ood.methods.pointwise import PointwiseMethod, measure_together
from diffusion_ood.runtime.transfers import to_device
from diffusion_ood.trajectories.evaluator import Evaluator


@dataclass
class OpenSet:
    """A set whose images are open; its split is without those that cannot be read.

    The `classes` are of each image, shape (N,), where the model has classes and the split labels;
    `trained_on` is the number of images that the model was trained on.
    """

    name: str
    role: str
    images: ImageSet
    classes: Tensor | None
    trained_on: int

    @property
    def contents(self) -> dict[str, str]:
        """What each image's numbers follow from beside the model, by its path in the split."""
        found = self.images.contents
        if self.classes is None:
            return found
        pairs = zip(found.items(), self.classes.tolist(), strict=True)
        return {name: f"{content}:class {number}" for (name, content), number in pairs}

    @property
    def keys(self) -> Sequence[str]:
        """What the images are called in a table: their paths as written in the split."""
        return self.images.split.images

    def batch(self, indices: list[int], pixels: Tensor, device: torch.device) -> ImageBatch:
        """These images as a method takes them; `pixels` are theirs, `(B, C, *S)`."""
        options = self.images.options
        if (options.spatial_dimension == 3 or options.slices) and options.orientation == "RAS":
            keys = [*map(content_key, pixels)]  # a volume has the same noise however it is stored
        else:
            keys = [self.keys[index] for index in indices]
        classes = None if self.classes is None else self.classes[indices]
        return ImageBatch(to_device(pixels, device), keys, classes)


@dataclass(frozen=True)
class Work:
    """What is to be done for a set: tables that lack images, of methods that share their calls."""

    one: OpenSet
    writers: Mapping[Method, TableWriter]
    missing: Mapping[Method, set[int]]

    @classmethod
    def of(cls, one: OpenSet, writers: Mapping[Method, TableWriter]) -> Work:
        """What the tables lack when they are opened."""
        missing = {
            method: {n for n, key in enumerate(one.keys) if key not in writer.finished}
            for method, writer in writers.items()
        }
        return cls(one, writers, missing)

    def measure(
        self, batch: ImageBatch, numbers: Sequence[int], evaluator: Evaluator
    ) -> Iterable[tuple[Method, Rows]]:
        """The rows of a batch of images of these numbers, of each method that lacks any of them."""
        asked = [method for method in self.writers if self.missing[method].intersection(numbers)]
        pointwise = [method for method in asked if isinstance(method, PointwiseMethod)]
        together = measure_together(pointwise, batch, evaluator) if pointwise else ()
        for one, found in together:
            missing = self.missing[one]
            kept = [k for k, image in enumerate(found.images) if numbers[image] in missing]
            if kept:
                yield one, Rows([found.images[k] for k in kept], found.measured[kept])
        for method in asked:
            if method not in pointwise:
                for found in finished(method.measure(batch, evaluator), len(batch)):
                    yield method, found
