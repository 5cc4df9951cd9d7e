"""What lies in a run directory, and the agreement of flags with what a checkpoint says."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from diffusion_ood import __version__
from diffusion_ood.diffusion.model import DiffusionModel
from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import BACKEND
from diffusion_ood.networks.resnet import Classifier
from diffusion_ood.networks.unet import load_weights
from diffusion_ood.options import (
    ClassifierOptions,
    DiffusionOptions,
    ImageOptions,
    ReconstructOptions,
)
from diffusion_ood.runtime.checkpoint import load_checkpoint

Options = TypeVar("Options")

MODEL_GROUPS = (ImageOptions, DiffusionOptions)  # what the checkpoint says of the model

CLASSIFIER_GROUPS = (ImageOptions, ClassifierOptions)  # and that of a classifier

LAST = "checkpoint.pth"
PREVIOUS = "checkpoint_previous.pth"
BEST = "checkpoint_best.pth"


def epoch_checkpoint(run_dir: Path, epoch: int) -> Path:
    """The checkpoint that is kept after so many epochs."""
    return run_dir / f"checkpoint_{epoch}.pth"


def checkpoint_path(run_dir: Path, asked: str) -> Path:
    """The checkpoint meant by `best`, `last` or a path."""
    names = {"best": BEST, "last": LAST}
    return run_dir / names[asked] if asked in names else Path(asked)


def asked_checkpoint(run_dir: Path, options: ReconstructOptions, given: frozenset[str]) -> Path:
    """The checkpoint to score with.

    Raises:
        UserError: it is asked for in two ways.
    """
    if options.ddpm_checkpoint_epoch is None:
        return checkpoint_path(run_dir, options.eval_checkpoint)
    if "eval_checkpoint" in given:
        raise UserError(
            "--ddpm_checkpoint_epoch, --eval_checkpoint: found both, expected one of them"
        )
    return epoch_checkpoint(run_dir, options.ddpm_checkpoint_epoch)


def plain(options: Any) -> dict[str, Any]:  # noqa: ANN401 - any options dataclass
    """An options instance as plain values, for JSON and checkpoints."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(options).items()
    }


def restore(cls: type[Options], stored: Mapping[str, Any]) -> Options:
    """An options instance from `plain` values; tuples come back as tuples."""
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return cls(**values)


def stored_options(cls: type, content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What a checkpoint says of an options class; options younger than it have their defaults.

    Raises:
        UserError: the checkpoint is of another kind of network.
    """
    found = content["options"].get(cls.__name__)
    if found is None:
        kinds = ", ".join(content["options"])
        raise UserError(f"{path}: found a checkpoint with {kinds}, expected {cls.__name__}")
    return plain(restore(cls, found))


def load_model(path: Path) -> tuple[DiffusionModel, ImageOptions, dict[str, Any]]:
    """The model of a checkpoint with the weights to evaluate, how it sees images, and the rest.

    Raises:
        UserError: no checkpoint of `train_ddpm.py` is there.
    """
    content = load_checkpoint(path)
    stored = {cls: stored_options(cls, content, path) for cls in MODEL_GROUPS}
    model = DiffusionModel(
        restore(DiffusionOptions, stored[DiffusionOptions]), tuple(content["image_shape"])
    )
    load_weights(model.network, content["weights"])
    model.network.eval()
    return model, restore(ImageOptions, stored[ImageOptions]), content


def load_classifier(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a checkpoint, and the rest of it.

    Raises:
        UserError: no checkpoint of `train_classifier.py` is there.
    """
    content = load_checkpoint(path)
    options = restore(ClassifierOptions, stored_options(ClassifierOptions, content, path))
    network = Classifier(
        options.classifier_type, tuple(content["image_shape"]), options.num_classes
    )
    network.load_state_dict(content["weights"])
    network.eval()
    return network, content


def refuse_contradiction(
    asked: Mapping[str, Any], stored: Mapping[str, Any], names: Iterable[str], path: Path
) -> None:
    """Raise a `UserError` for the first flag of `names` that is not what the checkpoint says."""
    for name in names:
        found, expected = asked[name], stored[name]
        if found != (tuple(expected) if isinstance(expected, list) else expected):
            raise UserError(
                f"--{name}: found {found}, but {path} was trained with {expected}; "
                "leave the flag out, or use another --model_name"
            )


def versions() -> dict[str, str]:
    """What the numbers of a run depend on beside its options."""
    return {
        "diffusion_ood": __version__,
        "torch": version("torch"),
        "monai": version("monai"),
        "networks": BACKEND,
        "python": platform.python_version(),
    }
