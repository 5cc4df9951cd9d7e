"""The one file that a detector is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from diffusion_ood.calibration.base import as_features
from diffusion_ood.calibration.evidence import Evidence
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.calibrated_maps import CalibratedMaps
from diffusion_ood.methods.chosen import chosen_methods
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.alexnet import find_alexnet_features, given
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.stored import stored_entry, stored_options, to_dict
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint
from diffusion_ood.runtime.device import DTYPES
from diffusion_ood.runtime.files import sha256

FORMAT = 1
"""Of what is under `detector`; it grows where an older version could not read the file."""


@dataclass(frozen=True)
class Content:
    """What a detector consists of.

    Attributes:
        diffusion: the model.
        options: what is measured, and how.
        methods: the same, at work.
        joined: the score that decides, of the features of all methods.
        by_method: that of each method alone.
        maps: what each pixel of validation images is like; None without a method for it.
        names: what the validation images were called, if that is known.
        precision: of the network's arithmetic.
        target_fpr: share of in-distribution images that may be called out of distribution.
        provenance: where it comes from; plain values.
        patients: which validation images are of one patient, by a number, if they are DICOM.
    """

    diffusion: Diffusion
    options: ReconstructOptions
    methods: Sequence[Method]
    joined: Evidence
    by_method: Mapping[str, Evidence]
    maps: CalibratedMaps | None
    names: Sequence[str]
    precision: str
    target_fpr: float
    provenance: Mapping[str, Any]
    patients: Sequence[int] = ()


def refuse_other_file(path: Path) -> None:
    """Raise a `UserError` where a detector cannot be written, or would replace something else."""
    if path.is_dir():
        raise UserError(f"`detector`: {path}: found a folder, expected a name for a file")
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"`detector`: {path}: found no folder there that can be written to")
        return
    try:
        is_detector = "detector" in load_checkpoint(path)
    except UserError:
        is_detector = False
    if not is_detector:
        raise UserError(
            f"`detector`: {path}: found a file of something else, expected another name"
        )


def write_detector(path: Path, content: Content) -> str:
    """Write a detector, atomically; equal detectors are equal files.

    Returns:
        The file's SHA-256.
    """
    model = content.diffusion.content()
    weights = {k: v.detach().cpu().contiguous() for k, v in model["weights"].items()}
    options = replace(content.options, validation_ids=None, reference_ids=None, lpips_weights=None)
    options = replace(options, vqvae_checkpoint=None)
    intensity = {k: v for k, v in model["training"].items() if k == "intensity"}
    found = {
        "detector": FORMAT,
        "options": {**model.pop("options"), ReconstructOptions.__name__: to_dict(options)},
        **model,
        "weights": weights,
        "training": intensity,  # without the digests of all training images
        "model_digest": content.diffusion.digest,
        "alexnet": find_alexnet_features() if _needs_alexnet(content.methods) else None,
        "learned": {m.name: _tensors(m.state_dict()) for m in content.methods if m.learns},
        "joined": _tensors(content.joined.state_dict()),
        "by_method": {k: _tensors(part.state_dict()) for k, part in content.by_method.items()},
        "maps": None if content.maps is None else _tensors(content.maps.state_dict()),
        "names": list(content.names),
        "precision": content.precision,
        "target_fpr": content.target_fpr,
        "provenance": dict(content.provenance),
    }
    if content.patients:
        found["patients"] = list(content.patients)
    save_checkpoint(path, found)
    return sha256(path)


def read_detector(path: Path) -> tuple[Content, str]:
    """What `write_detector` wrote, and the file's SHA-256.

    Raises:
        UserError: no such file, one that is damaged or of another kind, or of a later version.
    """
    if not path.is_file():
        raise UserError(f"{path}: found no such file, expected a detector of diffusion-ood fit")
    found = load_checkpoint(path, "a detector of diffusion-ood fit")
    version = found.get("detector")
    if version is None:
        raise UserError(f"{path}: found a checkpoint, expected a detector of diffusion-ood fit")
    if version != FORMAT:
        raise UserError(
            f"{path}: found a detector of format {version}, expected {FORMAT}; "
            f"it was made by {found.get('versions')}"
        )
    try:
        return _content(found, path), found["digest"]
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: found a detector without all of its parts "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error


def _content(found: dict[str, Any], path: Path) -> Content:
    diffusion = Diffusion.of_content({**found, "digest": found["model_digest"]}, path)
    options = stored_options(ReconstructOptions, found, path)
    by_method = {
        name: Evidence.from_state(_arrays(state)) for name, state in found["by_method"].items()
    }
    with given(found["alexnet"]):
        methods = [m for m in chosen_methods(options) if m.name in by_method]
    for method in methods:
        if method.learns:
            method.load_state_dict(_arrays(found["learned"][method.name]))
    maps = CalibratedMaps.beside(methods, diffusion) if found["maps"] else None
    if maps is not None:
        maps.load_state_dict(_arrays(found["maps"]))
    precision, target_fpr = found["precision"], found["target_fpr"]
    if precision not in DTYPES or not 0 < target_fpr < 1:
        raise UserError(f"{path}: found {precision}, {target_fpr}, expected a precision, a rate")
    if _needs_alexnet(methods) and found["alexnet"] is None:
        raise ValueError("found no weights for LPIPS")
    content = Content(
        diffusion=diffusion,
        options=options,
        methods=methods,
        joined=Evidence.from_state(_arrays(found["joined"])),
        by_method=by_method,
        maps=maps,
        names=[str(name) for name in stored_entry("names", found, path)],
        precision=precision,
        target_fpr=float(target_fpr),
        provenance=dict(found["provenance"]),
        patients=[int(patient) for patient in found.get("patients", ())],
    )
    _check(content)
    return content


def _check(content: Content) -> None:
    """Let all heads score an image of zeros, so that what does not fit is found now; ValueError."""
    number = content.provenance["validation"]["images"]
    if len(content.patients) not in (0, number):
        raise ValueError(f"found patients of other than {number} validation images")
    frames = []
    for one in content.methods:
        draws = one.draws(content.diffusion)
        zeros = np.zeros((1, len(draws), len(one.columns)))
        frames.append(as_features(zeros, draws, one.columns, f"{one.name}/"))
    features = pd.concat(frames, axis=1)
    for part in (content.joined, *content.by_method.values()):
        numbers = np.concatenate([part.val_scores, part.score(features)])
        if len(part.val_scores) != number or not np.isfinite(numbers).all():
            raise ValueError(f"found scores that are not those of {number} validation images")


def _needs_alexnet(methods: Sequence[Method]) -> bool:
    # `inpainted_…` and `regret_…` are LPIPS, too
    return any(c.endswith("perceptual_difference") for method in methods for c in method.columns)


def _tensors(state: Any) -> Any:  # noqa: ANN401 - a tree of plain values and arrays
    """The same with tensors for arrays, and Python's own numbers, which a safe file may hold."""
    if isinstance(state, Mapping):
        return {key: _tensors(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_tensors(value) for value in state]
    if isinstance(state, np.generic):
        return state.item()
    return torch.tensor(state) if isinstance(state, np.ndarray) else state


def _arrays(state: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(state, Mapping):
        return {key: _arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_arrays(value) for value in state]
    return state.numpy() if isinstance(state, Tensor) else state
