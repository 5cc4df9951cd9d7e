"""A detector: a diffusion model, what is measured with it, and what validation images are like.

It is fitted once and lies in one file, which says of any image whether it belongs to the
distribution that the model was trained on. Noise is drawn by an image's content, so that a file
that was moved, and an array of the same pixels, have the same score.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_ood.calibration import conformal
from diffusion_ood.data.inputs import Images, Reader, slices_of
from diffusion_ood.detector.file import Content, read_detector, write_detector
from diffusion_ood.detector.fitting import fitted, methods_of
from diffusion_ood.detector.measuring import keyed, measured, new_evaluator
from diffusion_ood.detector.scores import Scores, together
from diffusion_ood.errors import UserError
from diffusion_ood.methods.cost import BUDGET, announcement, cheaper_methods
from diffusion_ood.methods.pointwise import shared_calls
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import JOINED
from diffusion_ood.trajectories.evaluator import Evaluator

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT = ReconstructOptions(methods=(JOINED,))
FULL_CALLS = 4


class Detector:
    """Says whether images belong to the distribution that a diffusion model was trained on.

    Made by `fit` or `load`. Several threads may ask it at once; they wait for each other.

    Attributes:
        content: the model, what is measured with it, and what validation images are like.
        digest: of its file, empty before it is saved.
    """

    def __init__(self, content: Content, evaluator: Evaluator) -> None:
        self.content, self.digest = content, ""
        self.reader = Reader(content.diffusion.image_options, content.diffusion.image_shape)
        self._evaluator = evaluator
        self._lock = threading.Lock()

    @classmethod
    def fit(
        cls,
        diffusion: Diffusion,
        validation: Images,
        training: Images | None = None,
        *,
        options: ReconstructOptions = DEFAULT,
        target_fpr: float = 0.05,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        keep_names: bool = True,
        progress: bool = False,
    ) -> Self:
        """Fit to in-distribution images.

        Args:
            diffusion: the model.
            validation: images that it was not trained on, as those that will be screened.
            training: what methods such as features learn from, best the training images; without
                any, `joined` does without such methods.
            options: what is measured: `methods`, `budget`, `num_levels`, `repeats`, `scores`,
                `seed`, and those of `reconstruction`.
            target_fpr: share of in-distribution images that may be called out of distribution.
            device: where to compute.
            precision: of the network, which is the detector's from then on.
            keep_names: whether the validation images' file names are kept, by which patients or
                scans can be told apart.
            progress: whether to show bars.

        Raises:
            UserError: images that cannot be read, too few, or all of one score; or methods that
                cannot measure with this model.
        """
        evaluator = new_evaluator(diffusion, device, precision)
        content = fitted(evaluator, validation, training, options, target_fpr, keep_names, progress)
        return cls(content, evaluator)

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device = "auto", *, compile: str = "off"
    ) -> Self:
        """The detector of a file.

        Args:
            path: of the file.
            device: where to compute.
            compile: whether to compile the network, `off`, `on`, or `auto`, by what `expect` says.

        Raises:
            UserError: no such file, one that is damaged or of another kind, or of a later version.
        """
        content, digest = read_detector(Path(path))
        evaluator = new_evaluator(content.diffusion, device, content.precision, compile)
        detector = cls(content, evaluator)
        detector.digest = digest
        return detector

    def save(self, path: str | Path) -> None:
        """Write everything to one file, atomically; equal detectors are equal files."""
        self.digest = write_detector(Path(path), self.content)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, *S) of the model's images."""
        return self.content.diffusion.image_shape

    @property
    def target_fpr(self) -> float:
        """Share of in-distribution images that may be called out of distribution."""
        return self.content.target_fpr

    @property
    def val_scores(self) -> NDArray[np.float64]:
        """The scores of the validation images, rising."""
        return np.sort(self.content.joined.val_scores)

    @property
    def map_limit(self) -> float | None:
        """A value that maps of validation images hardly reach; None of a detector without maps."""
        return None if self.content.maps is None else self.content.maps.limit

    @property
    def calls_per_image(self) -> int:
        """Network calls an image."""
        return shared_calls(self.content.methods, self.content.diffusion)

    @property
    def images_at_once(self) -> int:
        """Images that keep the device busy; a GPU waits after them, and so wants several calls."""
        if self._evaluator.device.type == "cpu":
            return 1
        return max(1, FULL_CALLS * self._evaluator.max_batch // max(1, self.calls_per_image))

    def expect(self, num_images: int) -> None:
        """Say how many images are to come, by which `compile` auto decides."""
        self._evaluator.expect(self.calls_per_image * num_images)

    def decision(self) -> str | None:
        """What was decided about compiling and why, once."""
        return self._evaluator.decision()

    def cost(self, num_images: int) -> str:
        """How long so many images will take here, in a sentence; empty where that is short."""
        content, diffusion = self.content, self.content.diffusion
        learning = any(method.learns for method in content.methods)
        choose = partial(methods_of, learning=learning)
        cheaper = cheaper_methods(content.options, choose, diffusion)
        calls = self.calls_per_image * num_images
        fewer = shared_calls(cheaper, diffusion) * num_images
        how = f"a detector of `budget`={BUDGET} would take"
        with self._lock:
            return announcement(self._evaluator, content.methods, calls, cheaper, fewer, how)

    def score(self, images: Images) -> Scores:
        """Score images: files, or arrays of what files would hold.

        A model of slices has a score of each slice of a volume, in the order of `slices_of`.

        Raises:
            UserError: an image that cannot be read, or not of the model's size and values.
        """
        images = slices_of(images, self.reader.options)
        found = [self.measure(pixels) for pixels in self.reader.batches(images)]
        return together(found or [self.measure(torch.empty(0, *self.image_shape))])

    def measure(self, pixels: Tensor, *, maps: bool = False) -> Scores:
        """Score images as the model sees them.

        Args:
            pixels: float32 `(N, C, *S)` in [0, 1].
            maps: whether to say where images are unusual, too, at no further network call.

        Raises:
            UserError: maps are asked for, and the detector has no method that shows them.
        """
        of_pixels = self.content.maps if maps else None
        if maps and of_pixels is None:
            raise UserError(
                "`maps`: found a detector without denoising or joined among its methods"
            )
        batch = keyed(torch.as_tensor(pixels, dtype=torch.float32), self._evaluator)
        with self._lock:
            features, raw = measured(self.content.methods, of_pixels, batch, self._evaluator)
        joined, parts = self.content.joined, self.content.by_method
        scores = joined.score(features)
        by_method = pd.DataFrame({name: part.score(features) for name, part in parts.items()})
        z = pd.DataFrame({k: parts[k].standardised(by_method[k].to_numpy()) for k in parts})
        p = joined.p_values(scores)
        loudest = list(z.columns[z.to_numpy().argmax(axis=1)]) if len(z) else []
        shown = None if of_pixels is None else of_pixels.maps(raw)
        return Scores(scores, p, p <= self.target_fpr, loudest, by_method, batch.keys, shown)

    def features(self, pixels: Tensor) -> pd.DataFrame:
        """Everything that is measured of images as the model sees them, `(N, C, *S)` in [0, 1].

        Columns (`method/column`, t), of which the scores are made.
        """
        batch = keyed(pixels, self._evaluator)
        with self._lock:
            return measured(self.content.methods, None, batch, self._evaluator)[0]

    def score_samples(self, images: Images) -> NDArray[np.float64]:
        """Minus the scores (n,): lower is more abnormal, as in scikit-learn."""
        return -self.score(images).score

    def predict(self, images: Images) -> NDArray[np.int_]:
        """-1 for images out of distribution and 1 for others (n,), as scikit-learn has it."""
        return np.where(self.score(images).is_ood, -1, 1)

    def calibrated_to(self) -> Iterator[str]:
        """What the validation images set, in sentences."""
        val, rate = self.val_scores, f"{100 * self.target_fpr:g} %"
        limit = conformal.threshold(val, self.target_fpr)
        yield (
            f"calibrated on {len(val):,} validation images to {rate} of false alarms: "
            + ("no threshold" if limit is None else f"an image is OOD above a score of {limit:.3g}")
            + f"; the smallest p-value is {1 / (len(val) + 1):.2g}"
        )
        yield from conformal.doubts(len(val), self.target_fpr, np.empty(0))

    def summary(self) -> dict[str, Any]:
        """What it is, in plain values for JSON."""
        return {
            "methods": [method.name for method in self.content.methods],
            "calls_per_image": self.calls_per_image,
            "image_shape": list(self.image_shape),
            "target_fpr": self.target_fpr,
            "threshold": conformal.threshold(self.val_scores, self.target_fpr),
            "validation_images": len(self.val_scores),
            "val_scores": self.val_scores.tolist(),
            "precision": self.content.precision,
            "digest": self.digest,
            "provenance": dict(self.content.provenance),
        }
