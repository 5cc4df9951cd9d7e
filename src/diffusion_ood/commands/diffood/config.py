"""DiffOOD's YAML files: only keys that do something, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from diffusion_ood.errors import UserError

FOLDER = Path("config")
SHIPPED = Path(__file__).parents[2] / FOLDER

_KINDS = {"text": (str,), "whole number": (int,), "number": (int, float), "yes or no": (bool,)}

KEYS: dict[str, tuple[str, str | None]] = {
    "Dataset.name": ("text", None),
    "Dataset.image_size": ("whole number", "image_size"),
    "Dataset.channels": ("whole number", None),
    "Dataset.random_flip": ("yes or no", "flip"),
    "Dataset.num_workers": ("whole number", "num_workers"),
    "Model.struc": ("text", "model_type"),
    "Model.num_classes": ("whole number", "num_classes"),
    "Model.dropout": ("number", "res_dropout"),
    "Schedule.type": ("text", "beta_schedule"),
    "Schedule.beta_start": ("number", "beta_start"),
    "Schedule.beta_end": ("number", "beta_end"),
    "Train.epoch": ("whole number", "n_epochs"),
    "Train.batch_size": ("whole number", None),
    "Train.cond_ratio": ("number", None),
    "Train.train_step": ("whole number", "max_train_t"),
    "Train.t_type": ("text", None),
    "Train.ema_rate": ("number", "ema_decay"),
    "Optim.lr": ("number", "lr"),
    "Optim.warmup": ("whole number", "warmup_steps"),
    "Optim.grad_clip": ("number", None),
    "Sample.total_num": ("whole number", None),
    "Sample.batch_size": ("whole number", None),
    "Sample.guidance": ("number", None),
}
"""Every key of a configuration, all of them needed: what its value is, and the option of
train_ddpm.py that takes it as it is."""


def read_config(path: Path) -> dict[str, Any]:
    """The values of a configuration by `Section.key`.

    Args:
        path: the file, or its name in `config/` or among the configurations that come with us.

    Raises:
        UserError: no such file, no YAML of sections, a key unknown, missing or of another type.
    """
    path = find_config(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--config: {path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError(f"{path}: expected sections of keys, such as Dataset and Model")
    values = {
        f"{section}.{key}": value
        for section, keys in content.items()
        for key, value in keys.items()
    }
    for name in values.keys() - KEYS.keys():
        raise UserError(f"{path}: found the unknown key {name}, expected some of {', '.join(KEYS)}")
    for name, (kind, _) in KEYS.items():
        if name not in values:
            raise UserError(f"{path}: the key {name} is missing")
        value = values[name]
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool) != (kind == "yes or no"):
            raise UserError(f"{path}: {name} is {value!r}, expected a {kind}")
    return values


def find_config(path: Path) -> Path:
    """A file as it is named, else of that name in `config/`, else the one that comes with us."""
    places = (path, FOLDER / path, SHIPPED / path)
    return next((place for place in places if place.exists()), FOLDER / path)
