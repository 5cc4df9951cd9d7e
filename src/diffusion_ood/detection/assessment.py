"""All of a run's score tables together: image scores, metrics, decisions, warnings."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from diffusion_ood.calibration import conformal
from diffusion_ood.calibration.base import check_features, features, score_columns
from diffusion_ood.data.splits import PATCHED
from diffusion_ood.detection import metrics
from diffusion_ood.detection.consistency import comparison_warnings
from diffusion_ood.detection.folders import MAIN, find_tables, method_folders, table_path
from diffusion_ood.detection.groups import means, ood_sets, read_groups
from diffusion_ood.detection.image_scores import Target, fit_targets, select_t, z_by_level
from diffusion_ood.detection.metrics import Interval
from diffusion_ood.detection.table import REPEATED, read_table
from diffusion_ood.detection.table_writer import Sidecar, read_sidecar
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions
from diffusion_ood.options.detection import ALL_PUBLISHED
from diffusion_ood.options.reconstruction import JOINED
from diffusion_ood.runtime.words import counted

Frames = dict[str, pd.DataFrame]
"""A frame for "val", "in" and each other set, if there are any, in this order."""


@dataclass(frozen=True)
class Assessment:
    """What the score tables of one method say.

    Attributes:
        method: its name.
        folder: where its results lie.
        tables: where the tables and their history lie.
        sidecars: of those tables that have one.
        features: of each set, see `calibration.base.features`.
        targets: what is made of the features of an image, the primary score first.
        scores: of each set, `(images, scores)`: of the targets, and perhaps others.
        metrics: score → OOD set, or `(mean)` → metric; nothing of a score without OOD sets.
        decisions: of each set but val, by the primary score.
        warnings: in sentences.
        shifted: the names of the sets under covariate shift, neither in nor out of distribution.
        shown: the method whose pictures of images are shown in place of its own.
    """

    method: str
    folder: Path
    tables: Path
    sidecars: dict[str, Sidecar]
    features: Frames
    targets: list[Target]
    scores: Frames
    metrics: dict[str, dict[str, dict[str, Interval]]]
    decisions: Frames
    warnings: list[str]
    shifted: tuple[str, ...] = ()
    shown: Assessment | None = None

    @property
    def primary(self) -> str:
        """The name of the primary score, by which decisions are made."""
        return self.targets[0].name

    @property
    def start_points(self) -> list[int]:
        """The noise levels t, rising."""
        return sorted({int(t) for _, t in self.features["val"].columns})

    @property
    def ood_sets(self) -> list[str]:
        """The names of the OOD sets; without any there are decisions, but no metrics."""
        return ood_sets(self.scores, self.shifted)

    @property
    def num_images(self) -> dict[str, int]:
        """Of each set."""
        return {name: len(frame) for name, frame in self.scores.items()}

    @property
    def num_skipped(self) -> dict[str, int]:
        """Images of each set that could not be read and were left out, as far as it is known."""
        return {name: int(self.facts(name).get("skipped", 0)) for name in self.scores}

    @property
    def calls_per_image(self) -> int | None:
        """Network calls, if the sidecars say so."""
        return self.facts("in").get("calls_per_image")

    @functools.cached_property
    def called_ood(self) -> dict[str, Interval]:
        """The share of a set that is called OOD: for "in" the realised false-positive rate."""
        return {name: metrics.rate(frame["is_ood"]) for name, frame in self.decisions.items()}

    def threshold(self, target_fpr: float) -> float | None:
        """The primary score above which an image is called OOD; None where nothing ever is."""
        return conformal.threshold(self.scores["val"].iloc[:, 0], target_fpr)

    def facts(self, name: str) -> dict[str, Any]:
        """What the sidecar says of the images of a set; empty without one."""
        return self.sidecars[name]["facts"] if name in self.sidecars else {}

    def fingerprint(self, name: str) -> dict[str, Any]:
        """What the scores of a set depend on; empty where it is unknown."""
        known = self.sidecars[name]["fingerprint"] if name in self.sidecars else {}
        return {key: value for key, value in known.items() if key != "rows_per_image"}

    def z_by_level(self, name: str) -> pd.DataFrame:
        """The z-scores of a set by level, summed over the columns of the primary score."""
        return z_by_level(self.features["val"], self.features[name], self.targets[0].columns)


def assess_methods(ood_dir: Path, options: DetectOptions) -> list[Assessment]:
    """Assess every method whose tables lie in a run's folder, the main one first.

    The target that `options.headline` names is the primary score of each method that has it.

    Raises:
        UserError: as `assess`, or no method has a target of this name.
    """
    folders = method_folders(ood_dir)
    found = [assess(folder, options, method) for method, folder in folders.items()]
    for results in found[1:]:
        results.warnings.extend(_doubts(results, found[0]))
    applied = {target.name for results in found for target in results.targets}
    if idle := [name for name in options.heads if name not in (*applied, ALL_PUBLISHED)]:
        raise UserError(
            f"`heads` {idle[0]}: found no method with the columns that it needs in {ood_dir}"
        )
    if options.headline not in (None, JOINED) and not any(
        results.primary == options.headline for results in found
    ):
        names = dict.fromkeys(target.name for results in found for target in results.targets)
        raise UserError(
            f"`headline`: found {options.headline!r}, expected one of {', '.join(names)}"
        )
    return found


def _doubts(results: Assessment, first: Assessment) -> Iterator[str]:
    """What makes a method doubtful to compare with the first, in sentences."""
    known = [found for found in (results, first) if "val" in found.sidecars]
    if len({found.fingerprint("val").get("checkpoint") for found in known}) > 1:
        yield f"its tables are of another checkpoint than those of {first.method}"
    for name, scores in results.scores.items():
        if name in first.scores and set(scores.index) != set(first.scores[name].index):
            yield f"its images of {name} are not those of {first.method}"


def assess(folder: Path, options: DetectOptions, method: str = MAIN) -> Assessment:
    """Read one method's tables and assess every score.

    Raises:
        UserError: a table that is missing or wrong, or tables that do not compare.
    """
    paths = find_tables(folder, options)
    tables = {name: read_table(path) for name, path in paths.items()}
    expected = score_columns(tables["val"])
    shifted = tuple(name for name, table in tables.items() if "shifted" in set(table["type"]))
    for name, table in tables.items():
        if set(score_columns(table)) != set(expected):
            raise UserError(
                f"{paths[name]}: found the scores {', '.join(score_columns(table))}, "
                f"expected {', '.join(expected)} as in {paths['val'].name}"
            )
        role = {"val": "val", PATCHED: "val", "in": "in"}.get(
            name, "shifted" if name in shifted else "out"
        )
        if wrong := sorted(set(table["type"]) - {role}):
            raise UserError(
                f"{paths[name]}: found images of type {wrong[0]}, expected {role} in this table"
            )
    sidecars = {name: known for name, path in paths.items() if (known := read_sidecar(path))}
    warnings = list(comparison_warnings(folder, tables, sidecars))
    warnings += [
        f"{paths[name].name}: {counted(count, 'row')} more than once, counted once"
        for name, table in tables.items()
        if (count := table.attrs.get(REPEATED))
    ]
    known = sidecars.get("val")
    directed = bool(known["facts"].get("directed", True)) if known else True
    joint = None if method == MAIN else directed
    found, targets, scores = measure(folder, tables, options, joint=joint)
    return assessed(
        method=method,
        folder=folder,
        tables=folder,
        sidecars=sidecars,
        features=found,
        targets=targets,
        scores=scores,
        warnings=warnings,
        shifted=shifted,
        options=options,
    )


def assessed(
    *,
    method: str,
    folder: Path,
    tables: Path,
    sidecars: dict[str, Sidecar],
    features: Frames,
    targets: list[Target],
    scores: Frames,
    warnings: list[str],
    shifted: tuple[str, ...],
    options: DetectOptions,
) -> Assessment:
    """The metrics and the decisions that follow from scores, the first of which is primary."""
    decided = decide(scores, options.target_fpr)
    doubts = conformal.doubts(len(scores["val"]), options.target_fpr, decided["in"]["is_ood"])
    return Assessment(
        method=method,
        folder=folder,
        tables=tables,
        sidecars=sidecars,
        features=features,
        targets=targets,
        scores=scores,
        metrics={
            str(name): _metrics(str(name), scores, ood_sets(scores, shifted), options)
            for name in scores["val"]
        },
        decisions=decided,
        warnings=[*warnings, *doubts],
        shifted=shifted,
    )


def measure(
    folder: Path, tables: Frames, options: DetectOptions, *, joint: bool | None = None
) -> tuple[Frames, list[Target], Frames]:
    """The features of the rows that are asked for, their targets, and the scores of every image.

    The tables may be of any sets, "val" among them; `joint` is as in `fit_targets`.

    Raises:
        UserError: no start points are left, images or sets have different ones, or no target can
            be fitted.
    """
    found: Frames = {}
    columns = score_columns(tables["val"])
    for name, table in tables.items():
        with _naming(table_path(folder, name)):
            kept = select_t(table, options.min_t, options.max_t, options.t_skip)
            found[name] = features(kept, columns)
            check_features(found[name], found["val"].columns)
    patched = found.pop(PATCHED, None)
    with _naming(table_path(folder, "val")):
        targets = fit_targets(found["val"], options, patched, joint=joint)
    scores = {}
    for name, of_set in found.items():
        scores[name] = pd.DataFrame(
            {t.name: t.val_scores if name == "val" else t.score(of_set) for t in targets}
        )
    return found, targets, scores


def decide(scores: Frames, target_fpr: float) -> Frames:
    """The decisions on every set but val, by the primary score, which is the first column."""
    val = scores["val"].iloc[:, 0]
    return {
        name: conformal.decide(frame.iloc[:, 0], val, target_fpr)
        for name, frame in scores.items()
        if name != "val"
    }


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before the user's mistakes that are found inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _metrics(
    target: str, scores: Frames, names: Sequence[str], options: DetectOptions
) -> dict[str, dict[str, Interval]]:
    """The metrics of each OOD set, of groups of them, and their mean."""
    draws = {"n_bootstrap": options.n_bootstrap, "seed": options.seed}
    sets = {
        name: metrics.evaluate(scores["in"][target], scores[name][target], **draws)
        for name in names
    }
    groups = read_groups(options.groups) if options.groups else {}
    return {**sets, **means(sets, groups)}
