"""MLflow's local store, where MLflow is installed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_ood.report.curves import pr_table

EXPERIMENT = "diffusion-ood"


class MLflow:
    """A run in MLflow's local store, `output_dir/mlflow.db`; distributions are JSON artifacts.

    Args:
        output_dir: the folder of all runs, which share the store.
        name: of this run.
        goes_on: whether it continues the last run of this name, if there is one.
    """

    def __init__(self, output_dir: Path, name: str, *, goes_on: bool = False) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would ask the network
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        store = output_dir.expanduser().resolve()
        store.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
        if experiment := self._client.get_experiment_by_name(EXPERIMENT):
            number = experiment.experiment_id
        else:
            number = self._client.create_experiment(EXPERIMENT, (store / "mlartifacts").as_uri())
        earlier = self._client.search_runs([number]) if goes_on else []  # the last one first
        found = next((run for run in earlier if run.info.run_name == name), None)
        self._run = (found or self._client.create_run(number, run_name=name)).info.run_id
        self._client.update_run(self._run, status="RUNNING")

    def scalar(self, group: str, tag: str, value: float, step: int = 0) -> None:
        """A metric."""
        self._client.log_metric(self._run, _name(group, tag), value, step=step)

    def image(self, group: str, tag: str, pixels: NDArray[np.uint8], step: int = 0) -> None:
        """A picture `(H, W, 1 or 3)`, a PNG among the artifacts."""
        self._client.log_image(self._run, pixels, f"{_name(group, tag)}/{step}.png")

    def histogram(self, group: str, tag: str, values: ArrayLike, step: int = 0) -> None:
        """Counts and edges of 30 bins, as JSON."""
        counts, edges = np.histogram(np.asarray(values, np.float64), bins=30)
        content = {"counts": counts.tolist(), "edges": edges.tolist()}
        self._client.log_dict(self._run, content, f"{_name(group, tag)}/{step}.json")

    def pr_curve(self, group: str, tag: str, truth: ArrayLike, scores: ArrayLike) -> None:
        """Precision and recall of finding what is true by high scores, as JSON."""
        *_, precision, recall = pr_table(truth, scores)
        content = {"precision": precision.tolist(), "recall": recall.tolist()}
        self._client.log_dict(self._run, content, f"{_name(group, tag)}.json")

    def compare(self, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Parameters and metrics; MLflow fixes parameters, so a changed one becomes a tag."""
        fixed = self._client.get_run(self._run).data.params
        for name, value in parameters.items():
            changed = fixed.get(_name("", name), value) != value
            log = self._client.set_tag if changed else self._client.log_param
            log(self._run, _name("", name), value)
        for tag, number in metrics.items():
            self.scalar("", tag, number)

    def flush(self) -> None:
        """Nothing: all is written at once."""

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def _name(group: str, tag: str) -> str:
    """A name that MLflow accepts."""
    return re.sub(r"[^\w. /-]", "_", f"{group}/{tag}".strip("/"))
