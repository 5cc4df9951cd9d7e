"""Which sets are OOD, groups of them, such as near and far, and the means over these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from diffusion_ood.detection import metrics
from diffusion_ood.detection.metrics import Interval
from diffusion_ood.errors import UserError

MEAN = "(mean)"  # brackets, as a data set may be called "mean"


def ood_sets(names: Iterable[str], shifted: Collection[str]) -> list[str]:
    """Those that are neither "val" nor "in" nor shifted."""
    return [name for name in names if name not in ("val", "in", *shifted)]


def read_groups(path: Path) -> dict[str, list[str]]:
    """The names of the OOD sets in each group of a YAML file, `near: [CIFAR100, TinyImageNet]`.

    Raises:
        UserError: no such file, or not lists of names.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"`groups`: {path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {str(error).splitlines()[0]}") from None
    groups: dict[str, Any] = dict(content) if isinstance(content, Mapping) else {"": None}
    for group, names in groups.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: found {group}: {names}, expected group: [set, set, …]")
    return groups


def means(
    sets: Mapping[str, Mapping[str, Interval]], groups: Mapping[str, list[str]]
) -> dict[str, dict[str, Interval]]:
    """The mean of each group's metrics over those of its sets that were found, and over all sets.

    Groups without a set, and the mean over a single set, are left out.
    """
    found = {
        f"({group} mean)": [sets[name] for name in names if name in sets]
        for group, names in groups.items()
    }
    found[MEAN] = list(sets.values()) if len(sets) > 1 else []
    return {name: metrics.mean(members) for name, members in found.items() if members}
