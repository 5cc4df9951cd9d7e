"""What a detector is made of: evidence and maps of validation images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from diffusion_ood.calibration.base import MIN_VALIDATION, too_few
from diffusion_ood.data.inputs import Images, names_of, patients_of, slices_of
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.detection.fitting import fit_evidence
from diffusion_ood.detector.file import Content
from diffusion_ood.detector.measuring import keyed_batches, measured
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.calibrated_maps import CalibratedMaps
from diffusion_ood.methods.chosen import chosen_methods, for_model
from diffusion_ood.methods.scores.output_shift import OutputShift
from diffusion_ood.model import versions
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.fields import refuse_outside
from diffusion_ood.registries import SCORES
from diffusion_ood.trajectories.evaluator import Evaluator


def fitted(
    evaluator: Evaluator,
    validation: Images,
    training: Images | None,
    options: ReconstructOptions,
    target_fpr: float,
    keep_names: bool,
    progress: bool,
) -> Content:
    """What `Detector.fit` makes, which describes the arguments."""
    refuse_outside("target_fpr", target_fpr, above=0, below=1)
    images = evaluator.diffusion.image_options
    validation = slices_of(validation, images)
    training = None if training is None else slices_of(training, images)
    if 0 < len(validation) < MIN_VALIDATION:
        raise too_few(len(validation))
    options = for_model(options, evaluator.diffusion)
    methods = methods_of(options, learning=training is not None)
    for method in methods:
        method.check(evaluator.diffusion)
        if method.learns and training is not None:
            title = f"{method} learns" if progress else ""
            method.learn(keyed_batches(training, evaluator, title), evaluator)
    batches = keyed_batches(validation, evaluator, "validation" if progress else "")
    features, maps, keys = validated(methods, batches, evaluator)
    joined, by_method = fit_evidence(features, {m.name: m.directed for m in methods})
    provenance = {"versions": versions(), "validation": origin(validation, keys)}
    if training is not None:
        provenance["training"] = origin(training)
    return Content(
        diffusion=evaluator.diffusion,
        options=options,
        methods=methods,
        joined=joined,
        by_method=by_method,
        maps=maps,
        names=names_of(validation) if keep_names else [],
        precision=evaluator.precision,
        target_fpr=target_fpr,
        provenance=provenance,
        patients=patients_of(validation) if keep_names else [],
    )


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
    if moved := [name for name in options.scores if SCORES[name] is OutputShift]:
        raise UserError(f"`scores` {moved[0]}: needs a classifier, which no detector holds")
    if "diffood" in options.methods:
        raise UserError("`methods` diffood: needs a classifier, which no detector holds")
    methods = chosen_methods(options)
    for method in methods:
        if method.learns and not learning and method.name in options.methods:
            raise UserError(
                f"`methods` {method}: found no `training_ids`, expected images to learn"
            )
    return [method for method in methods if learning or not method.learns]


def validated(
    methods: Sequence[Method], batches: Iterable[ImageBatch], evaluator: Evaluator
) -> tuple[pd.DataFrame, CalibratedMaps | None, list[str]]:
    """The features of validation images, maps that are calibrated by them, and their keys."""
    maps = CalibratedMaps.beside(methods, evaluator.diffusion)
    frames: list[pd.DataFrame] = []
    keys: list[str] = []
    for batch in batches:
        frame, raw = measured(methods, maps, batch, evaluator)
        if maps is not None:
            maps.update(raw)
        frames.append(frame)
        keys += batch.keys
    if len(keys) < 2:
        raise too_few(len(keys))
    if maps is not None:
        maps.finish()
    return pd.concat(frames, ignore_index=True), maps, keys


def origin(images: Images, keys: Sequence[str] = ()) -> dict[str, Any]:
    """How many images they are, the name of their split, and a digest of what is in them."""
    name = images.split.path.name if isinstance(images, ImageSet) else None
    found = {"images": len(images), "split": name}
    if keys:
        found["contents"] = hashlib.sha256("".join(keys).encode()).hexdigest()
    return found
