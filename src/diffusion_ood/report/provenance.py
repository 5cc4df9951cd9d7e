"""How a run's results were made: commands, versions, the checkpoint, images and their cost."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.history import read_work
from diffusion_ood.version import __version__

NAMES = {"checkpoint": "checkpoint (SHA-256)", "classifier": "classifier (SHA-256)"}
PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Provenance:
    """How the results were made.

    Attributes:
        settings: what the scores depend on, by name.
        commands: the lines that made them, the oldest first.
        versions: of the packages that scored and that assessed.
        costs: of each set, None or empty where unknown: its `name` and `split`, the `images` in
            its table, their `native_sizes`, the `skipped` ones, the network `calls` for all
            together, the `seconds` spent as far as they were timed, and the images `timed`.
        training: the options of the training, by their names; empty where unknown.
    """

    settings: dict[str, str]
    commands: list[str]
    versions: dict[str, str]
    costs: list[dict[str, Any]]
    training: dict[str, str]


def trace(run_dir: Path, results: Assessment, command: str) -> Provenance:
    """How the results in a run directory were made, the last of it by `command`.

    Beside the tables lies the history; a model that was trained here has its `config.json`.
    """
    settings: dict[str, str] = {}
    versions: dict[str, str] = {}
    commands: list[str] = []
    costs = []
    for name in results.num_images:
        fingerprint = results.fingerprint(name)
        settings = settings or {
            NAMES.get(key, key): _shown(value) for key, value in fingerprint.items()
        }
        work = read_work(results.tables, name, fingerprint)
        for entry in work:
            commands.append(str(entry.get("command", "")))
            versions |= {str(k): str(v) for k, v in entry.get("versions", {}).items()}
            settings |= {"device": f"{entry.get('processes', 1)} × {entry.get('device', '?')}"}
        costs.append(_cost(name, results, work))
    training: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the report can do without it
        config = (run_dir / "config.json").read_text(encoding="utf-8")
        training = training_options(json.loads(config))
    own = {"diffusion_ood": __version__, "python": platform.python_version()}
    return Provenance(
        settings=settings,
        commands=[*dict.fromkeys(commands), command],
        versions={**versions, **own, **{package: version(package) for package in PACKAGES}},
        costs=costs,
        training=training,
    )


def _cost(name: str, results: Assessment, work: list[dict[str, Any]]) -> dict[str, Any]:
    images, facts = results.num_images[name], results.facts(name)
    calls, sizes = facts.get("calls_per_image"), facts.get("native_size") or []
    shown = ", ".join(" × ".join(map(str, size)) for size in sizes[:3])
    timed = sum(entry.get("images", 0) * entry.get("processes", 1) for entry in work)
    return {
        "name": name,
        "split": facts.get("split"),
        "images": images,
        "native_sizes": shown + " …" * (len(sizes) > 3),
        "skipped": facts.get("skipped"),
        "calls": None if calls is None else calls * images,
        "seconds": sum(entry.get("seconds", 0.0) for entry in work) if work else None,
        "timed": min(timed, images),
    }


def training_options(config: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The options in a training's `config.json` by their names, without where it ran."""
    return {
        name: _shown(value)
        for group, options in config.items()
        if group not in ("RunOptions", "LoadingOptions", "versions")
        for name, value in options.items()
        if value is not None
    }


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
