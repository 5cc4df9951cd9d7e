"""The scores that `reconstruct.py` is asked for, as one thing that measures a batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from diffusion_ood.data.labels import class_numbers
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.files import atomic_write, sha256
from diffusion_ood.scores import classifier
from diffusion_ood.scores.base import Score
from diffusion_ood.scores.classifier import ClassifierScores, Watch
from diffusion_ood.scores.mse import MeanSquaredError
from diffusion_ood.scores.perceptual import PerceptualDifference
from diffusion_ood.scores.reconstruction import score_each

PERCEPTUAL = ("perceptual", PerceptualDifference.name)
GATHER_S = 5.0  # writing every image by itself would be slow
NAMES = (MeanSquaredError.name, PERCEPTUAL[0], *classifier.NAMES)


def wants_lpips(options: ReconstructOptions) -> bool:
    """Whether LPIPS is asked for; a good place to refuse scores that do not exist.

    Raises:
        UserError: an unknown score, or one of a classifier that is not given.
    """
    for name in options.scores:
        if name not in (*NAMES, *PERCEPTUAL):
            raise UserError(f"--scores: found {name!r}, expected some of {', '.join(NAMES)}")
        if name in classifier.NAMES and options.classifier_checkpoint is None:
            raise UserError(f"--scores {name}: found no --classifier_checkpoint, expected one")
    return any(name in PERCEPTUAL for name in options.scores)


class Measuring:
    """Every score of a batch's reconstructions, and the classes that its images are taken for.

    Args:
        options: which scores and labels.
        alexnet_features: for LPIPS; None leaves it out.
        model: the diffusion model, and what its checkpoint says of its classes.
        names: of the diffusion model's classes; empty for one without.
        device: where to compute.

    Raises:
        UserError: a classifier of other images or classes, or labels for a model without classes.
    """

    def __init__(
        self,
        options: ReconstructOptions,
        alexnet_features: dict[str, Tensor] | None,
        model: Diffusion,
        names: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.options = options
        self.names = names
        self.scores: list[Score] = []
        self._classes: dict[Split, Tensor] = {}
        if MeanSquaredError.name in options.scores:
            self.scores.append(MeanSquaredError())
        if alexnet_features is not None:
            self.scores.append(PerceptualDifference(alexnet_features, device))
        self.classifier: ClassifierScores | None = None
        if options.labels != "none" and not names:
            raise UserError(
                f"--labels {options.labels}: the diffusion model has no classes; "
                "train it with --num_classes, or leave --labels out"
            )
        if options.classifier_checkpoint is not None:
            self.classifier = self._load(options.classifier_checkpoint, model, device)
        if not self.columns:
            raise UserError("--scores: none of them can be computed, expected at least mse")

    @property
    def columns(self) -> list[str]:
        """Of the score table."""
        of_classifier = self.classifier.columns if self.classifier else ()
        return [*(score.name for score in self.scores), *of_classifier]

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on, as far as it is not what the first system does."""
        options = self.options
        found: dict[str, Any] = {}
        if options.levels:
            found |= {"noise": "shared by all levels of a repeat"}
        if options.repeats > 1:
            found |= {"repeats": options.repeats}
        if options.labels != "none":
            found |= {"labels": options.labels, "guidance": options.guidance}
        if options.classifier_checkpoint is not None:
            found |= {"classifier": sha256(options.classifier_checkpoint)}
        return found

    @torch.inference_mode()
    def watch(self, images: Tensor) -> Watch | None:
        """The classifier's view of images `(B, C, *S)` in [0, 1], where there is a classifier."""
        return self.classifier.watch(images) if self.classifier else None

    def prepare(self, split: Split) -> None:
        """Read the classes of a set that is going to be scored, where they are asked for.

        Raises:
            UserError: a label that is missing or none of the model's classes.
        """
        if self.options.labels == "true":
            self._classes[split] = class_numbers(split, self.names)

    def labels(self, split: Split, batch: list[int], watch: Watch | None) -> Tensor | None:
        """The class (B,) that each image of a batch is taken for, on the CPU, if any."""
        if self.options.labels == "true":
            return self._classes[split][batch]
        if self.options.labels == "pred":
            assert watch is not None, "options refuse predicted labels without a classifier"
            return watch.predicted
        return None

    @torch.inference_mode()
    def finished(
        self,
        images: Tensor,
        reconstructions: Iterable[tuple[Tensor, Tensor, Tensor]],
        num_slots: int,
        watch: Watch | None,
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Images as all of their slots are scored, no more often than every `GATHER_S` seconds.

        Yields:
            The numbers of n images, and every column of theirs, float32 on the CPU,
            `(n, num_slots, columns)`; every image once.
        """
        values = torch.full((len(images), num_slots, len(self.scores)), torch.nan)
        left = torch.full((len(images),), num_slots)
        kept, last = torch.zeros(len(images), dtype=torch.bool), time.monotonic()
        show = watch.show if watch else None
        for image in score_each(self.scores, images, reconstructions, values, show):
            left -= torch.bincount(image, minlength=len(left))
            ready = (left == 0) & ~kept
            due = not left.any() or time.monotonic() - last >= GATHER_S
            if ready.any() and due:
                kept, last = kept | ready, time.monotonic()
                whole = [values, watch.values(num_slots)] if watch else [values]
                yield ready.nonzero()[:, 0].tolist(), torch.cat(whole, dim=2)[ready]

    def table(
        self, kind: str, keys: list[str], slots: Sequence[tuple[int, int]], values: Tensor
    ) -> pd.DataFrame:
        """The rows of a batch's images, image by image, t and then repeat rising.

        Args:
            kind: `val`, `in` or `out`.
            keys: the images' paths as written in their split.
            slots: start point and repeat.
            values: shape `(B, slots, columns)`.
        """
        table = pd.DataFrame(
            {
                "filename": [key for key in keys for _ in slots],
                "type": kind,
                "t": [start for start, _ in slots] * len(keys),
            }
        )
        if self.options.repeats > 1:
            table["repeat"] = [repeat for _, repeat in slots] * len(keys)
        for k, column in enumerate(self.columns):
            table[column] = values[:, :, k].flatten().numpy()
        return table

    def _load(self, path: Path, model: Diffusion, device: torch.device) -> ClassifierScores:
        network, content = load_classifier(path)
        shape, names = tuple(content["image_shape"]), tuple(content["classes"])
        if shape != model.image_shape:
            raise UserError(
                f"{path}: found a classifier of images of {shape}, expected {model.image_shape} "
                "like those of the diffusion model"
            )
        if self.options.labels == "pred" and names != self.names:
            raise UserError(
                f"{path}: found a classifier of the classes {', '.join(names)}, expected those of "
                f"the diffusion model, {', '.join(self.names)}"
            )
        return ClassifierScores(prepare(network, device), self.options.scores, self.options.repeats)


def save_sheet(path: Path, cells: Tensor) -> None:
    """A picture with a row an image: `(images, columns, C, *S)` in [0, 1]."""
    if cells.ndim == 6:  # the middle slice of each volume
        cells = cells[:, :, :, cells.shape[3] // 2]
    sheet = make_grid(cells.flatten(0, 1), nrow=cells.shape[1], padding=1, pad_value=0.5)
    with atomic_write(path, "wb") as file:
        save_image(sheet, file, format="png")
