"""How a run's results were made: commands, versions, the checkpoint, images and their cost."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.history import read_work
from diffusion_ood.detection.table_writer import read_sidecar
from diffusion_ood.version import __version__

NAMES = {"checkpoint": "checkpoint (SHA-256)", "classifier": "classifier (SHA-256)"}
PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Cost:
    """How a set was scored; None where it is unknown.

    Attributes:
        images: in the table.
        skipped: images of the split that could not be read.
        calls: network calls for all images together.
        seconds: spent on scoring them, as far as it was timed.
        timed: images that the seconds were spent on.
    """

    name: str
    split: str | None
    images: int
    native_sizes: str | None
    skipped: int | None
    calls: int | None
    seconds: float | None
    timed: int


@dataclass(frozen=True)
class Provenance:
    """How the results were made.

    Attributes:
        settings: what the scores depend on, by name.
        commands: the lines that made them, the oldest first.
        versions: of the packages that scored and that assessed.
        costs: of each set.
        training: the options of the training, by their names; empty where unknown.
    """

    settings: dict[str, str]
    commands: list[str]
    versions: dict[str, str]
    costs: list[Cost]
    training: dict[str, str]

    @property
    def sizes_known(self) -> bool:
        """Whether the stored sizes of all sets are known, and so were compared."""
        return all(cost.native_sizes for cost in self.costs)


def trace(run_dir: Path, results: Assessment, command: str) -> Provenance:
    """How the results in a run directory were made, as far as its files say.

    Args:
        run_dir: with the model's `config.json`, if it was trained here.
        results: of all sets; beside their tables lie sidecars and the history.
        command: the line that assessed the tables.
    """
    settings: dict[str, str] = {}
    versions: dict[str, str] = {}
    commands: list[str] = []
    costs = []
    for name, images in results.num_images.items():
        sidecar = read_sidecar(table_path(results.folder, name))
        fingerprint = dict(sidecar["fingerprint"]) if sidecar else {}
        facts = sidecar["facts"] if sidecar else {}
        fingerprint.pop("rows_per_image", None)
        settings = settings or {
            NAMES.get(key, key): _shown(value) for key, value in fingerprint.items()
        }
        work = read_work(results.folder, name, fingerprint)
        for entry in work:
            commands.append(str(entry.get("command", "")))
            versions |= {str(k): str(v) for k, v in entry.get("versions", {}).items()}
            settings |= {"device": f"{entry.get('processes', 1)} × {entry.get('device', '?')}"}
        costs.append(_cost(name, images, facts, work))
    own = {"diffusion_ood": __version__, "python": platform.python_version()}
    return Provenance(
        settings=settings,
        commands=[*dict.fromkeys(commands), command],
        versions={**versions, **own, **{package: version(package) for package in PACKAGES}},
        costs=costs,
        training=_training(run_dir / "config.json"),
    )


def _cost(name: str, images: int, facts: dict[str, Any], work: list[dict[str, Any]]) -> Cost:
    calls, sizes = facts.get("calls_per_image"), facts.get("native_size")
    timed = sum(entry.get("images", 0) * entry.get("processes", 1) for entry in work)
    return Cost(
        name=name,
        split=facts.get("split"),
        images=images,
        native_sizes=", ".join(" × ".join(map(str, size)) for size in sizes[:3])
        + (" …" if len(sizes) > 3 else "")
        if sizes
        else None,
        skipped=facts.get("skipped"),
        calls=None if calls is None else calls * images,
        seconds=sum(entry.get("seconds", 0.0) for entry in work) if work else None,
        timed=min(timed, images),
    )


def training_options(config: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The options of a training by their names, without where it ran.

    Args:
        config: the content of its `config.json`.
    """
    return {
        name: _shown(value)
        for group, options in config.items()
        if group not in ("RunOptions", "LoadingOptions", "versions")
        for name, value in options.items()
        if value is not None
    }


def _training(path: Path) -> dict[str, str]:
    try:
        return training_options(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):  # the report can do without it
        return {}


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
