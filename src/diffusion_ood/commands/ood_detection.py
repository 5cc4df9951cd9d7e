"""Metrics and decisions from the score tables of one run.

    python ood_detection.py --output_dir output --model_name fashionmnist

Reads ood/results_val.csv, ood/results_in.csv and the OOD sets' ood/results_<dataset>.csv in the
run's folder; writes metrics.json, metrics.csv and decisions_<dataset>.csv beside them. A higher
score is more out of distribution.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffusion_ood import cli
from diffusion_ood.detection import calibration, decisions, metrics
from diffusion_ood.detection.comparable import comparison_warnings
from diffusion_ood.detection.groups import means, read_groups
from diffusion_ood.detection.metrics import Interval
from diffusion_ood.detection.table import read_table, score_columns, table_path, write_table
from diffusion_ood.detection.targets import image_targets
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions, RunOptions
from diffusion_ood.runtime.files import write_json

TITLES = {"auroc": "AUROC", "aupr_out": "AUPR-out", "aupr_in": "AUPR-in", "fpr95": "FPR95"}

Frames = dict[str, pd.DataFrame]
"""A frame for "val", "in" and each OOD set, in this order."""


@dataclasses.dataclass(frozen=True)
class Results:
    """What the command found.

    `metrics` goes target → OOD set, or `(mean)` → metric; `called_ood` is the share of the images
    of a set that is called OOD: for "in" the realised false-positive rate.
    """

    start_points: list[int]
    num_images: dict[str, int]
    metrics: dict[str, dict[str, dict[str, Interval]]]
    decisions: Frames
    called_ood: dict[str, Interval]
    warnings: list[str]

    @property
    def headline(self) -> str:
        """The target that decisions are made by."""
        return next(iter(self.metrics))


def main(argv: Sequence[str] | None = None) -> None:
    """Read the tables, assess every score, print the results and write them."""
    line = cli.parse(__doc__, (RunOptions, DetectOptions), argv)
    run, options = line[RunOptions], line[DetectOptions]
    tables = _read_tables(run.ood_dir, options.out_data)
    warnings = list(comparison_warnings(run.ood_dir, tables))
    for name, table in tables.items():
        with _naming(table_path(run.ood_dir, name)):
            tables[name] = calibration.select_t(table, options.min_t, options.max_t, options.t_skip)
    results = _assess(run.ood_dir, tables, options, warnings)
    for text in _report(run.model_name, results, options):
        print(text)
    for path in _write(run, options, results):
        print(f"written: {path}")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before the user's mistakes that are found inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_tables(ood_dir: Path, out_data: Sequence[str]) -> Frames:
    """The tables, all with the same scores; UserError says which command makes a missing one."""
    found = sorted(path.stem.removeprefix("results_") for path in ood_dir.glob("results_*.csv"))
    out_names = list(dict.fromkeys(out_data)) or [n for n in found if n not in ("val", "in")]
    if reserved := {"val", "in"} & set(out_names):
        raise UserError(f"--out_data: found {min(reserved)!r}, expected names of OOD sets")
    makers = {"val": "--validation_ids", "in": "--in_ids"}
    for name in (*makers, *out_names):
        if name not in found:
            raise UserError(
                f"{table_path(ood_dir, name)}: no such score table, expected one made by "
                f"reconstruct.py with {makers.get(name, '--out_ids')}"
            )
    if not out_names:
        raise UserError(f"{ood_dir}: no OOD set, expected one made by reconstruct.py --out_ids")
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


def _image_scores(ood_dir: Path, tables: Frames, options: DetectOptions) -> Frames:
    """The scores of each set, `(images, targets)`, the headline first."""
    with _naming(table_path(ood_dir, "val")):
        val = tables["val"]
        calibrated = calibration.fit(val, score_columns(val), need_spread=options.z_score)
    frames = {}
    for name, table in tables.items():
        with _naming(table_path(ood_dir, name)):
            frames[name] = image_targets(table, calibrated, options.z_score, options.headline)
    return frames


def _assess(
    ood_dir: Path, tables: Frames, options: DetectOptions, warnings: Sequence[str]
) -> Results:
    scores = _image_scores(ood_dir, tables, options)
    headline = str(scores["val"].columns[0])
    decided = {
        name: decisions.decide(frame[headline], scores["val"][headline], options.target_fpr)
        for name, frame in scores.items()
        if name != "val"
    }
    too_few = decisions.too_few_validation_images(len(scores["val"]), options.target_fpr)
    return Results(
        start_points=sorted(map(int, tables["val"]["t"].unique())),
        num_images={name: len(frame) for name, frame in scores.items()},
        metrics={str(target): _metrics(str(target), scores, options) for target in scores["val"]},
        decisions=decided,
        called_ood={name: decisions.rate(frame["is_ood"]) for name, frame in decided.items()},
        warnings=[*warnings, *([too_few] if too_few else [])],
    )


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


def _percent(interval: Interval) -> str:
    """Show 0.979 as "97.9 [96.8, 98.8]", or "97.9" without bounds."""
    value = f"{100 * interval.value:.1f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _report(model_name: str, results: Results, options: DetectOptions) -> Iterator[str]:
    """The paragraphs that the command prints."""
    t, images = results.start_points, results.num_images
    yield (
        f"{model_name}: {images['val']} validation and {images['in']} in-distribution test "
        f"images; {len(t)} start points from t = {t[0]} to {t[-1]}\n"
        "In percent, with 95 % intervals; out of distribution (OOD) is the positive class.\n"
    )
    for target, sets in results.metrics.items():
        title = f"{target} (headline)" if target == results.headline else target
        rows = [[title, "images", *TITLES.values()]]
        for name, found in sets.items():
            count = str(images[name]) if name in images else ""
            rows.append([name, count, *(_percent(found[metric]) for metric in TITLES)])
        yield _columns(rows) + "\n"
    aim = f"the false-positive rate, expected {100 * options.target_fpr:g}"
    rows = [
        [name, _percent(share), aim if name == "in" else ""]
        for name, share in results.called_ood.items()
    ]
    yield f"Called OOD by {results.headline}\n{_columns(rows)}\n"
    for warning in results.warnings:
        yield f"warning: {warning}"


def _write(run: RunOptions, options: DetectOptions, results: Results) -> Iterator[Path]:
    """Write the result files; yields the path of each once it is there."""
    for name, decided in results.decisions.items():
        path = run.ood_dir / f"decisions_{name}.csv"
        write_table(path, decided.assign(is_ood=decided["is_ood"].astype(int)))
        yield path
    path = run.ood_dir / "metrics.csv"
    write_table(path, _long_form(results))
    yield path
    path = run.ood_dir / "metrics.json"
    write_json(path, _as_json(run, options, results))
    yield path


def _long_form(results: Results) -> pd.DataFrame:
    """A row for each target, data set and metric; cells without a value are empty."""
    rows = [
        {
            "target": target,
            "dataset": name,
            "metric": metric,
            "value": interval.value,
            "low": "" if interval.low is None else interval.low,
            "high": "" if interval.high is None else interval.high,
            "n_in": results.num_images["in"],
            "n_out": results.num_images.get(name, ""),
        }
        for target, sets in results.metrics.items()
        for name, found in sets.items()
        for metric, interval in found.items()
    ]
    return pd.DataFrame(rows, dtype=object)


def _as_json(run: RunOptions, options: DetectOptions, results: Results) -> Mapping[str, Any]:
    """Everything but the single images."""
    plain = dataclasses.asdict(dataclasses.replace(results, decisions={}))
    return {
        "options": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in {**dataclasses.asdict(run), **dataclasses.asdict(options)}.items()
        },
        "headline": results.headline,
        "start_points": results.start_points,
        "num_images": results.num_images,
        "targets": plain["metrics"],
        "target_fpr": options.target_fpr,
        "realised_fpr": plain["called_ood"].pop("in"),
        "detection_rates": plain["called_ood"],
        "warnings": results.warnings,
    }
