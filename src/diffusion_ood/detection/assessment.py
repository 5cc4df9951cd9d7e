"""All of a run's score tables together: scores of images, metrics, decisions, warnings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from diffusion_ood.detection import calibration, decisions, metrics
from diffusion_ood.detection.calibration import Calibration
from diffusion_ood.detection.comparable import comparison_warnings, skipped_images
from diffusion_ood.detection.groups import means, read_groups
from diffusion_ood.detection.metrics import Interval
from diffusion_ood.detection.table import PATCHED, read_table, score_columns, table_path
from diffusion_ood.detection.targets import image_targets
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions

Frames = dict[str, pd.DataFrame]
"""A frame for "val", "in" and each OOD set, in this order."""


@dataclass(frozen=True)
class Assessment:
    """What a run's score tables say.

    Attributes:
        tables: the rows that were assessed.
        calibrated: by the validation images.
        scores: of each set, `(images, targets)`, the headline first.
        metrics: target → OOD set, or `(mean)` → metric.
        decisions: of each set but val, by the headline.
        called_ood: share of the images of a set that is called OOD: for "in" the realised
            false-positive rate.
        warnings: in sentences.
        num_skipped: images of each set that could not be read and were left out.
    """

    tables: Frames
    calibrated: Calibration
    scores: Frames
    metrics: dict[str, dict[str, dict[str, Interval]]]
    decisions: Frames
    called_ood: dict[str, Interval]
    warnings: list[str]
    num_skipped: dict[str, int] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The target that decisions are made by."""
        return str(self.scores["val"].columns[0])

    @property
    def start_points(self) -> list[int]:
        """The noise levels t, rising."""
        return sorted(map(int, self.calibrated.mean.index))

    @property
    def num_images(self) -> dict[str, int]:
        """Of each set."""
        return {name: len(frame) for name, frame in self.scores.items()}


def assess(ood_dir: Path, options: DetectOptions) -> Assessment:
    """Read a run's tables and assess every score.

    Raises:
        UserError: a table that is missing or wrong, or tables that do not compare.
    """
    tables = _read_tables(ood_dir, options)
    warnings = list(comparison_warnings(ood_dir, tables))
    tables, calibrated, scores = measure(ood_dir, tables, options)
    decided = decide(scores, options.target_fpr)
    n, num_in, alpha = len(scores["val"]), len(scores["in"]), options.target_fpr
    doubts = (
        decisions.too_few_validation_images(n, alpha),
        decisions.uncertain_threshold(n, alpha),
        decisions.unexpected_rate(int(decided["in"]["is_ood"].sum()), num_in, n, alpha),
    )
    return Assessment(
        tables=tables,
        calibrated=calibrated,
        scores=scores,
        metrics={str(target): _metrics(str(target), scores, options) for target in scores["val"]},
        decisions=decided,
        called_ood={name: decisions.rate(frame["is_ood"]) for name, frame in decided.items()},
        warnings=[*warnings, *(doubt for doubt in doubts if doubt)],
        num_skipped=skipped_images(ood_dir, tables),
    )


def measure(
    ood_dir: Path, tables: Frames, options: DetectOptions
) -> tuple[Frames, Calibration, Frames]:
    """The rows that are asked for, their calibration, and the scores of every image.

    Args:
        ood_dir: where the tables lie, for error messages.
        tables: "val" among them.
        options: which start points, and what the headline is.
    """
    kept: Frames = {}
    for name, table in tables.items():
        with _naming(table_path(ood_dir, name)):
            kept[name] = calibration.select_t(table, options.min_t, options.max_t, options.t_skip)
    with _naming(table_path(ood_dir, "val")):
        val = kept["val"]
        calibrated = calibration.fit(val, score_columns(val), need_spread=options.z_score)
    if PATCHED in kept:
        with _naming(table_path(ood_dir, PATCHED)):
            calibrated = calibrated.separating(val, kept.pop(PATCHED))
    if options.level_weights == "highest":
        calibrated = calibrated.of_the_highest()
    scores: Frames = {}
    for name, table in kept.items():
        with _naming(table_path(ood_dir, name)):
            scores[name] = image_targets(table, calibrated, options.z_score, options.headline)
    return kept, calibrated, scores


def decide(scores: Frames, target_fpr: float) -> Frames:
    """The decisions on every set but val, by the headline, which is the first column."""
    val = scores["val"].iloc[:, 0]
    return {
        name: decisions.decide(frame.iloc[:, 0], val, target_fpr)
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


def _read_tables(ood_dir: Path, options: DetectOptions) -> Frames:
    """The tables, all with the same scores; UserError says which command makes a missing one."""
    found = sorted(path.stem.removeprefix("results_") for path in ood_dir.glob("results_*.csv"))
    known = {"val", "in", PATCHED}
    out_names = list(dict.fromkeys(options.out_data)) or [n for n in found if n not in known]
    if reserved := known & set(out_names):
        raise UserError(f"`out_data`: found {min(reserved)!r}, expected names of OOD sets")
    makers = {"val": "`validation_ids`", "in": "`in_ids`"}
    if options.level_weights == "patched":
        makers[PATCHED] = "`run_patched`"
    for name in (*makers, *out_names):
        if name not in found:
            raise UserError(
                f"{table_path(ood_dir, name)}: no such score table, expected one made by "
                f"reconstruct.py with {makers.get(name, '`out_ids`')}"
            )
    if not out_names:
        raise UserError(f"{ood_dir}: no OOD set, expected one made by reconstruct.py `out_ids`")
    tables = {name: read_table(table_path(ood_dir, name)) for name in (*makers, *out_names)}
    expected = score_columns(tables["val"])
    for name, table in tables.items():
        if set(score_columns(table)) != set(expected):
            raise UserError(
                f"{table_path(ood_dir, name)}: found the scores "
                f"{', '.join(score_columns(table))}, expected {', '.join(expected)} as in "
                f"{table_path(ood_dir, 'val').name}"
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
