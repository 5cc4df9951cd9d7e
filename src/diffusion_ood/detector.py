"""A detector: a diffusion model, what is measured with it, and what validation images are like.

It is fitted once and lies in one file, which says of any image whether it belongs to the
distribution that the model was trained on. Noise is drawn by an image's content, so that a file
that was moved, and an array of the same pixels, have the same score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from diffusion_ood.calibration import conformal
from diffusion_ood.calibration.base import as_features
from diffusion_ood.data.inputs import Images, Reader, names_of
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.detection.fitting import fit_evidence
from diffusion_ood.detector_file import Content, read_detector, write_detector
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.calibrated_maps import CalibratedMaps
from diffusion_ood.methods.chosen import chosen_methods
from diffusion_ood.methods.measure import content_key, measure_all
from diffusion_ood.methods.pointwise import shared_calls
from diffusion_ood.model import Diffusion, versions
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import JOINED
from diffusion_ood.trajectories.evaluator import Evaluator

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT = ReconstructOptions(methods=(JOINED,))


@dataclass(frozen=True)
class Scores:
    """What a detector says of n images.

    Attributes:
        score: higher is more out of distribution, float64 (n,).
        p_value: the share of in-distribution images that score as high, float64 (n,).
        is_ood: whether the p-value is at most the detector's `target_fpr`, bool (n,).
        loudest: the method by which each image is the most unusual (n,).
        by_method: the score by each method alone, float64 (n, methods).
        keys: a digest of each image's content (n,).
        maps: where each image is unusual, float32 (n, *S), if that was asked for.
    """

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_ood: NDArray[np.bool_]
    loudest: Sequence[str]
    by_method: pd.DataFrame
    keys: Sequence[str]
    maps: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.score)


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
        methods = methods_of(options, learning=training is not None)
        for method in methods:
            method.check(diffusion)
        provenance: dict[str, Any] = {"versions": versions()}
        if training is not None:
            for method in methods:
                if method.learns:
                    title = f"{method} learns" if progress else ""
                    method.learn(_batches(training, evaluator, title), evaluator)
            provenance["training"] = _origin(training)
        keys, frames = "", []
        maps = CalibratedMaps.beside(methods, diffusion)
        for batch in _batches(validation, evaluator, "validation" if progress else ""):
            frame, raw = _measured(methods, maps, batch, evaluator)
            if maps is not None:
                maps.update(raw)
            frames.append(frame)
            keys += "".join(batch.keys)
        if not frames:
            raise UserError("found no validation images, expected at least 3")
        features = pd.concat(frames, ignore_index=True)
        joined, by_method = fit_evidence(features, {m.name: m.directed for m in methods})
        if maps is not None:
            maps.finish()
        contents = hashlib.sha256(keys.encode()).hexdigest()
        provenance["validation"] = {**_origin(validation), "contents": contents}
        content = Content(
            diffusion=diffusion,
            options=options,
            methods=methods,
            joined=joined,
            by_method=by_method,
            maps=maps,
            names=names_of(validation) if keep_names else [],
            precision=precision,
            target_fpr=target_fpr,
            provenance=provenance,
        )
        return cls(content, evaluator)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Self:
        """The detector of a file.

        Raises:
            UserError: no such file, one that is damaged or of another kind, or of a later version.
        """
        content, digest = read_detector(Path(path))
        detector = cls(content, new_evaluator(content.diffusion, device, content.precision))
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

    def score(self, images: Images) -> Scores:
        """Score images: files, or arrays of what files would hold.

        Raises:
            UserError: an image that cannot be read, or not of the model's size and values.
        """
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
        batch = _batch(pixels, self._evaluator)
        with self._lock:
            features, raw = _measured(self.content.methods, of_pixels, batch, self._evaluator)
        joined, parts = self.content.joined, self.content.by_method
        scores = joined.score(features)
        by_method = pd.DataFrame({name: part.score(features) for name, part in parts.items()})
        z = pd.DataFrame({k: parts[k].standardised(by_method[k].to_numpy()) for k in parts})
        p = joined.p_values(scores)
        loudest = list(z.columns[z.to_numpy().argmax(axis=1)]) if len(z) else []
        shown = None if of_pixels is None else of_pixels.maps(raw)
        return Scores(scores, p, p <= self.target_fpr, loudest, by_method, batch.keys, shown)

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


def methods_of(options: ReconstructOptions, *, learning: bool = True) -> list[Method]:
    """What a detector of these options measures.

    Args:
        options: see `Detector.fit`.
        learning: whether there are images to learn from.

    Raises:
        UserError: methods that need a classifier or classes, which no detector holds; or images to
            learn from, of which there are none.
    """
    if options.classifier_checkpoint is not None or options.labels != "none":
        raise UserError("`classifier_checkpoint`, `labels`: a detector holds no classifier")
    if "diffood" in options.methods:
        raise UserError("`methods` diffood: needs a classifier, which no detector holds")
    methods = chosen_methods(options)
    for method in methods:
        if method.learns and not learning and method.name in options.methods:
            raise UserError(
                f"`methods` {method}: found no `training_ids`, expected images to learn"
            )
    return [method for method in methods if learning or not method.learns]


def new_evaluator(diffusion: Diffusion, device: str | torch.device, precision: str) -> Evaluator:
    """In fp32 nothing is compiled, which would move scores and gain little."""
    compile = "off" if precision == "fp32" else "auto"
    return Evaluator(diffusion, device, precision=precision, compile=compile)


def together(parts: Sequence[Scores]) -> Scores:
    """The scores of several batches, of which there is at least one."""
    joint: dict[str, Any] = {}
    for field in dataclasses.fields(Scores):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], np.ndarray):
            joint[field.name] = np.concatenate(values)
        elif values[0] is None:
            joint[field.name] = None
        elif isinstance(values[0], pd.DataFrame):
            joint[field.name] = pd.concat(values, ignore_index=True)
        else:
            joint[field.name] = [value for part in values for value in part]
    return Scores(**joint)


def _batches(images: Images, evaluator: Evaluator, title: str) -> Iterator[ImageBatch]:
    """Images with their keys, and a bar of this title where it has one."""
    diffusion = evaluator.diffusion
    reader = Reader(diffusion.image_options, diffusion.image_shape)
    hidden = None if title else True  # None: also hidden where the output is not a terminal
    with tqdm(total=len(images), desc=title, unit="image", disable=hidden) as bar:
        for pixels in reader.batches(images):
            yield _batch(pixels, evaluator)
            bar.update(len(pixels))


def _batch(pixels: Tensor, evaluator: Evaluator) -> ImageBatch:
    keys = [content_key(image) for image in pixels]
    return ImageBatch(pixels.to(evaluator.device), keys)


def _measured(
    methods: Sequence[Method], maps: CalibratedMaps | None, batch: ImageBatch, evaluator: Evaluator
) -> tuple[pd.DataFrame, Tensor]:
    """What was measured of a batch, its columns named `method/column`, and of each pixel."""
    found = measure_all([*methods, *([maps.method] if maps else [])], batch, evaluator)
    frames = []
    for one in methods:
        draws, prefix = one.draws(evaluator.diffusion), f"{one.name}/"
        frames.append(as_features(found[one.name].numpy(), draws, one.columns, prefix))
    return pd.concat(frames, axis=1), found[maps.method.name] if maps else torch.empty(0)


def _origin(images: Images) -> dict[str, Any]:
    """How many images they are, and the name of the split that they come from."""
    name = images.split.path.name if isinstance(images, ImageSet) else None
    return {"images": len(images), "split": name}
