"""All of a run's score tables together: image scores, metrics, decisions, warnings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion_ood.calibration import conformal
from diffusion_ood.calibration.base import check_features, features, score_columns
from diffusion_ood.data.splits import PATCHED
from diffusion_ood.detection import metrics
from diffusion_ood.detection.consistency import comparison_warnings, skipped_images
from diffusion_ood.detection.folders import MAIN, find_tables, method_folders, table_path
from diffusion_ood.detection.groups import means, read_groups
from diffusion_ood.detection.image_scores import Target, fit_targets, select_t, z_by_level
from diffusion_ood.detection.metrics import Interval
from diffusion_ood.detection.table import read_table
from diffusion_ood.detection.table_writer import read_sidecar
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions

Frames = dict[str, pd.DataFrame]
"""A frame for "val", "in" and each OOD set, in this order."""


@dataclass(frozen=True)
class Assessment:
    """What the score tables of one method say.

    Attributes:
        method: its name.
        folder: where its tables lie.
        features: of each set, see `calibration.base.features`.
        targets: what is reported of an image, the primary score first.
        scores: of each set, `(images, targets)`.
        metrics: target → OOD set, or `(mean)` → metric.
        decisions: of each set but val, by the primary score.
        called_ood: share of the images of a set that is called OOD: for "in" the realised
            false-positive rate.
        warnings: in sentences.
        num_skipped: images of each set that could not be read and were left out.
        calls_per_image: network calls, if the sidecars say so.
    """

    method: str
    folder: Path
    features: Frames
    targets: list[Target]
    scores: Frames
    metrics: dict[str, dict[str, dict[str, Interval]]]
    decisions: Frames
    called_ood: dict[str, Interval]
    warnings: list[str]
    num_skipped: dict[str, int]
    calls_per_image: int | None

    @property
    def primary(self) -> str:
        """The name of the primary score, by which decisions are made."""
        return self.targets[0].name

    @property
    def start_points(self) -> list[int]:
        """The noise levels t, rising."""
        return sorted({int(t) for _, t in self.features["val"].columns})

    @property
    def num_images(self) -> dict[str, int]:
        """Of each set."""
        return {name: len(frame) for name, frame in self.scores.items()}

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
    if options.headline and not any(results.primary == options.headline for results in found):
        names = dict.fromkeys(target.name for results in found for target in results.targets)
        raise UserError(
            f"`headline`: found {options.headline!r}, expected one of {', '.join(names)}"
        )
    return found


def _doubts(results: Assessment, first: Assessment) -> Iterator[str]:
    """What makes a method doubtful to compare with the first, in sentences."""
    sidecars = [read_sidecar(table_path(found.folder, "val")) for found in (results, first)]
    checkpoints = {found["fingerprint"].get("checkpoint") for found in sidecars if found}
    if len(checkpoints) > 1:
        yield f"its tables are of another checkpoint than those of {first.method}"
    for name, scores in results.scores.items():
        if name in first.scores and set(scores.index) != set(first.scores[name].index):
            yield f"its images of {name} are not those of {first.method}"


def assess(folder: Path, options: DetectOptions, method: str = MAIN) -> Assessment:
    """Read one method's tables and assess every score.

    Args:
        folder: of the tables.
        options: what to assess, and how.
        method: its name.

    Raises:
        UserError: a table that is missing or wrong, or tables that do not compare.
    """
    tables = _read_tables(folder, options)
    warnings = list(comparison_warnings(folder, tables))
    found, targets, scores = measure(folder, tables, options, joint=method != MAIN)
    decided = decide(scores, options.target_fpr)
    n, num_in, alpha = len(scores["val"]), len(scores["in"]), options.target_fpr
    doubts = (
        conformal.too_few_validation_images(n, alpha),
        conformal.uncertain_threshold(n, alpha),
        conformal.unexpected_rate(int(decided["in"]["is_ood"].sum()), num_in, n, alpha),
    )
    sidecar = read_sidecar(table_path(folder, "in"))
    return Assessment(
        method=method,
        folder=folder,
        features=found,
        targets=targets,
        scores=scores,
        metrics={target.name: _metrics(target.name, scores, options) for target in targets},
        decisions=decided,
        called_ood={name: metrics.rate(frame["is_ood"]) for name, frame in decided.items()},
        warnings=[*warnings, *(doubt for doubt in doubts if doubt)],
        num_skipped=skipped_images(folder, found),
        calls_per_image=sidecar["facts"].get("calls_per_image") if sidecar else None,
    )


def measure(
    folder: Path, tables: Frames, options: DetectOptions, *, joint: bool = False
) -> tuple[Frames, list[Target], Frames]:
    """The features of the rows that are asked for, their targets, and the scores of every image.

    Args:
        folder: where the tables lie, for error messages.
        tables: "val" among them.
        options: which start points, and which targets.
        joint: see `fit_targets`.

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
    scores = {
        name: pd.DataFrame(
            {
                target.name: target.val_scores if name == "val" else target.score(of_set)
                for target in targets
            }
        )
        for name, of_set in found.items()
    }
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


def _read_tables(folder: Path, options: DetectOptions) -> Frames:
    """The tables, all with the same scores."""
    paths = find_tables(folder, options)
    tables = {name: read_table(path) for name, path in paths.items()}
    expected = score_columns(tables["val"])
    for name, table in tables.items():
        if set(score_columns(table)) != set(expected):
            raise UserError(
                f"{paths[name]}: found the scores {', '.join(score_columns(table))}, "
                f"expected {', '.join(expected)} as in {paths['val'].name}"
            )
    return tables


def _metrics(target: str, scores: Frames, options: DetectOptions) -> dict[str, dict[str, Interval]]:
    """The metrics of each OOD set, of groups of them, and their mean."""
    draws = {"n_bootstrap": options.n_bootstrap, "seed": options.seed}
    sets = {
        name: metrics.evaluate(scores["in"][target], frame[target], **draws)
        for name, frame in scores.items()
        if name not in ("val", "in")
    }
    groups = read_groups(options.groups) if options.groups else {}
    return {**sets, **means(sets, groups)}
