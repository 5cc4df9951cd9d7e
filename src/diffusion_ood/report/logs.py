"""Logs of a run: its score tables and its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ood.calibration.base import score_columns
from diffusion_ood.detection.assessment import Assessment
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.history import read_work
from diffusion_ood.detection.table import read_table
from diffusion_ood.options import RunOptions, TrackOptions
from diffusion_ood.report.mlflow_log import MLflow
from diffusion_ood.report.pictures import load_pictures, pictures_path
from diffusion_ood.report.provenance import Provenance
from diffusion_ood.report.tensorboard_log import TensorBoard
from diffusion_ood.runtime.files import as_text

Tracker = TensorBoard | MLflow
"""A log that shows runs beside each other.

Its `group` tells sets of images of one run apart, "" is the run itself; its `step` is an epoch or a
noise level.
"""

SHEET_CELL = 64  # pixels that a cell of a sheet has at least on its longer side


def open_tracker(
    run: RunOptions, options: TrackOptions, command: str, *, goes_on: bool = False
) -> Tracker:
    """The tracker that the options ask for; a training may go on from an earlier one.

    A training has a row of its own in TensorBoard's table, all other commands share one.
    """
    if options.tracker == "mlflow":
        return MLflow(run.output_dir, f"{run.model_name} {command}", goes_on=goes_on)
    trial = "/".join(run.run_dir.absolute().parts[-2:])
    if command == "train":
        return TensorBoard(run.run_dir, command, f"{trial} train", goes_on=goes_on)
    return TensorBoard(run.ood_dir / "tensorboard", command, trial)


def log_set(tracker: Tracker, ood_dir: Path, name: str, fingerprint: Mapping[str, Any]) -> None:
    """Log a finished set: scores at each noise level, reconstructions, throughput."""
    table, shown = read_table(table_path(ood_dir, name)), as_text(name)
    for column in score_columns(table):
        for t in sorted(table["t"].unique()):
            values = table.loc[table["t"] == t, column]
            tracker.histogram(shown, f"levels/{column}", values, step=int(t))
    if pictures := load_pictures(pictures_path(ood_dir, name), fingerprint):
        levels = ", ".join(map(str, pictures.starts))
        tracker.image(shown, f"images and reconstructions from t = {levels}", sheet(pictures.cells))
    work = read_work(ood_dir, name, fingerprint)
    if seconds := sum(entry["seconds"] for entry in work):
        images = sum(entry["images"] * entry["processes"] for entry in work)
        tracker.scalar(shown, "images_per_second", images / seconds)


def log_results(tracker: Tracker, results: Assessment, provenance: Provenance) -> None:
    """Log results: scores, PR curves, and AUROCs beside the options of the run."""
    primary, inside = results.primary, results.scores["in"]
    for name, scores in results.scores.items():
        tracker.histogram(as_text(name), f"scores/{primary}", scores[primary])
        if name not in results.ood_sets:
            continue
        truth = np.repeat([False, True], [len(inside), len(scores)])
        pooled = np.r_[inside[primary].to_numpy(), scores[primary].to_numpy()]
        tracker.pr_curve(as_text(name), f"pr/{primary}", truth, pooled)
    for name, called in results.called_ood.items():
        tracker.scalar(as_text(name), "called_ood", called.value)
    aurocs = {
        as_text(f"auroc/{target}/{name}"): found["auroc"].value
        for target, sets in results.metrics.items()
        for name, found in sets.items()
    }
    training = {f"train {name}": value for name, value in provenance.training.items()}
    settings = {name: as_text(value) for name, value in provenance.settings.items()}
    tracker.compare({"headline": primary, **settings, **training}, aurocs)


def sheet(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A row an image of `(rows, columns, H, W, channels)`, with lines between, as one picture."""
    times = max(1, SHEET_CELL // max(cells.shape[2:4]))
    large = cells.repeat(times, axis=2).repeat(times, axis=3)
    framed = np.pad(large, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=128)
    rows, columns, height, width, channels = framed.shape
    return framed.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
