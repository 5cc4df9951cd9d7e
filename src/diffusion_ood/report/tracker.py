"""The protocol of a log, which shows runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_THRESHOLDS = 201

Value = str | int | float | bool


class Tracker(Protocol):
    """What can be logged.

    `group` tells sets of images of one run apart, "" is the run itself; `step` is an epoch or a
    noise level.
    """

    def scalar(self, group: str, tag: str, value: float, step: int = 0) -> None:
        """One number."""

    def image(self, group: str, tag: str, pixels: NDArray[np.uint8], step: int = 0) -> None:
        """A picture `(H, W, 1 or 3)`."""

    def histogram(self, group: str, tag: str, values: ArrayLike, step: int = 0) -> None:
        """The distribution of some numbers."""

    def pr_curve(self, group: str, tag: str, truth: ArrayLike, scores: ArrayLike) -> None:
        """Precision against recall of finding what is true by high scores."""

    def compare(self, parameters: Mapping[str, Value], metrics: Mapping[str, float]) -> None:
        """The parameters of this run and its metrics, to compare runs by."""

    def flush(self) -> None:
        """Write what is not written yet."""

    def close(self) -> None:
        """Write what is not written yet; the command has finished."""


def pr_table(truth: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """TP, FP, TN, FN, precision and recall at 201 quantiles of the scores, rising: `(6, 201)`."""
    positive, values = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    thresholds = np.quantile(values, np.linspace(0, 1, NUM_THRESHOLDS), method="higher")
    below = [
        np.searchsorted(np.sort(part), thresholds) for part in (values[positive], values[~positive])
    ]
    fn, tn = below
    tp, fp = positive.sum() - fn, (~positive).sum() - tn
    return np.stack([tp, fp, tn, fn, tp / np.maximum(tp + fp, 1), tp / max(1, positive.sum())])
