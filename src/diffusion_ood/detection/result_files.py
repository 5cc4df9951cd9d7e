"""The files that hold what an assessment found: metrics.json, metrics.csv, decisions_<set>.csv."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.group_results import GroupResults, long_form
from diffusion_ood.detection.pixel_metrics import PixelResults
from diffusion_ood.detection.table import write_table
from diffusion_ood.options import DetectOptions, RunOptions
from diffusion_ood.runtime.files import write_json


def write_results(
    run: RunOptions,
    options: DetectOptions,
    methods: Sequence[Assessment],
    pixels: PixelResults | None = None,
    groups: Sequence[GroupResults] = (),
) -> Iterator[Path]:
    """Write every method's files beside its tables; yields the path of each once it is there.

    `ood/metrics.json` holds the first method's results, all methods' AUROCs under "methods", and
    what maps show under "pixels", and those of groups, which are the first method's, under
    "groups". Without methods it holds that of maps alone.
    """
    for results in methods:
        tables = {
            f"decisions_{name}.csv": decided.assign(is_ood=decided["is_ood"].astype(int))
            for name, decided in results.decisions.items()
        }
        for name, table in {**tables, "metrics.csv": _long_form(results)}.items():
            write_table(results.folder / name, table)
            yield results.folder / name
        if results.folder != run.ood_dir:
            write_json(results.folder / "metrics.json", _as_json(run, options, results))
            yield results.folder / "metrics.json"
    found: dict[str, Any] = {"options": _given(run, options)}
    if methods:
        overview = {results.method: _overview(results) for results in methods}
        found = {**_as_json(run, options, methods[0]), "methods": overview}
    if groups:
        found["groups"] = {one.level: one.as_json() for one in groups}
        for name in groups[0].decisions:
            path = methods[0].folder / f"groups_{name}.csv"
            write_table(path, long_form(groups, name))
            yield path
    if pixels is not None:
        found["pixels"] = dataclasses.asdict(pixels)
    path = run.ood_dir / "metrics.json"
    write_json(path, found)
    yield path


def _long_form(results: Assessment) -> pd.DataFrame:
    """A row for each target, data set and metric; without OOD sets the header alone."""
    rows = [
        {
            "target": target,
            "dataset": name,
            "metric": metric,
            **dataclasses.asdict(interval),
            "n_in": results.num_images["in"],
            "n_out": results.num_images.get(name),
        }
        for target, sets in results.metrics.items()
        for name, found in sets.items()
        for metric, interval in found.items()
    ]
    columns = ("target", "dataset", "metric", "value", "low", "high", "n_in", "n_out")
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _overview(results: Assessment) -> Mapping[str, Any]:
    """A method's primary score, its calls, its false-positive rate, the AUROC of each set."""
    found = results.metrics[results.primary]
    aurocs = {name: dataclasses.asdict(of_set["auroc"]) for name, of_set in found.items()}
    return {
        "headline": results.primary,
        "calls_per_image": results.calls_per_image,
        "realised_fpr": dataclasses.asdict(results.called_ood["in"]),
        **({"auroc": aurocs} if aurocs else {}),
    }


def _as_json(run: RunOptions, options: DetectOptions, results: Assessment) -> Mapping[str, Any]:
    """Everything but the single images."""
    called = {name: dataclasses.asdict(share) for name, share in results.called_ood.items()}
    shifted = {name: called.pop(name) for name in results.shifted}
    return {
        "options": _given(run, options),
        "headline": results.primary,
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
        "threshold": results.threshold(options.target_fpr),
        "realised_fpr": called.pop("in"),
        **({"shifted_false_alarms": shifted} if shifted else {}),
        "detection_rates": called,
        "warnings": results.warnings,
    }


def _given(run: RunOptions, options: DetectOptions) -> Mapping[str, Any]:
    """The options as JSON values."""
    given = {**dataclasses.asdict(run), **dataclasses.asdict(options)}
    return {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
