"""Metrics and decisions from the score tables of one run.

    python ood_detection.py --output_dir output --model_name fashionmnist

Reads ood/results_val.csv, ood/results_in.csv and the OOD sets' ood/results_<dataset>.csv in the
run's folder; writes metrics.json, metrics.csv, decisions_<dataset>.csv and report.html beside
them. A higher score is more out of distribution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffusion_ood import cli
from diffusion_ood.console import invocation
from diffusion_ood.detection.assessment import Assessment, assess
from diffusion_ood.detection.metrics import TITLES, Interval
from diffusion_ood.detection.table import write_table
from diffusion_ood.options import DetectOptions, RunOptions, TrackOptions
from diffusion_ood.report.logs import log_results, open_tracker
from diffusion_ood.report.page import write_report
from diffusion_ood.report.provenance import trace
from diffusion_ood.runtime.files import write_json

GROUPS = (RunOptions, DetectOptions, TrackOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the tables, assess every score, print the results and write them."""
    line = cli.parse(__doc__, GROUPS, argv)
    run, options = line[RunOptions], line[DetectOptions]
    results = assess(run.ood_dir, options)
    tracker = open_tracker(run, line[TrackOptions], "detect")
    for text in _report(run.model_name, results, options):
        print(text)
    for path in _write(run, options, results):
        print(f"written: {path}")
    provenance = trace(run.run_dir, run.ood_dir, results, line.command(invocation("detect")))
    log_results(tracker, results, provenance)
    tracker.close()
    path = run.ood_dir / "report.html"
    write_report(path, run.model_name, results, options.target_fpr, provenance)
    print(f"report: {path}")


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


def _counts(results: Assessment) -> dict[str, str]:
    """The images of each set, as "98" or "98 (2 skipped)"."""
    skipped = {name: f" ({count} skipped)" for name, count in results.num_skipped.items() if count}
    return {name: f"{count}{skipped.get(name, '')}" for name, count in results.num_images.items()}


def _report(model_name: str, results: Assessment, options: DetectOptions) -> Iterator[str]:
    """The paragraphs that the command prints."""
    t, images, weights = results.start_points, _counts(results), options.level_weights
    yield (
        f"{model_name}: {images['val']} validation and {images['in']} in-distribution test "
        f"images; {len(t)} start points from t = {t[0]} to {t[-1]}"
        f"{'' if weights == 'equal' else f', weighted: {weights}'}\n"
        "In percent, with 95 % intervals; out of distribution (OOD) is the positive class.\n"
    )
    for target, sets in results.metrics.items():
        title = f"{target} (headline)" if target == results.headline else target
        rows = [[title, "images", *TITLES.values()]]
        for name, found in sets.items():
            rows.append(
                [name, images.get(name, ""), *(_percent(found[metric]) for metric in TITLES)]
            )
        yield _columns(rows) + "\n"
    aim = f"the false-positive rate, expected {100 * options.target_fpr:g}"
    rows = [
        [name, _percent(share), aim if name == "in" else ""]
        for name, share in results.called_ood.items()
    ]
    yield f"Called OOD by {results.headline}\n{_columns(rows)}\n"
    for warning in results.warnings:
        yield f"warning: {warning}"


def _write(run: RunOptions, options: DetectOptions, results: Assessment) -> Iterator[Path]:
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


def _long_form(results: Assessment) -> pd.DataFrame:
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


def _as_json(run: RunOptions, options: DetectOptions, results: Assessment) -> Mapping[str, Any]:
    """Everything but the single images."""
    called = {name: dataclasses.asdict(share) for name, share in results.called_ood.items()}
    return {
        "options": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in {**dataclasses.asdict(run), **dataclasses.asdict(options)}.items()
        },
        "headline": results.headline,
        "start_points": results.start_points,
        "num_images": results.num_images,
        "num_skipped": results.num_skipped,
        "targets": {
            target: {
                name: {metric: dataclasses.asdict(value) for metric, value in found.items()}
                for name, found in sets.items()
            }
            for target, sets in results.metrics.items()
        },
        "target_fpr": options.target_fpr,
        "realised_fpr": called.pop("in"),
        "detection_rates": called,
        "warnings": results.warnings,
    }
