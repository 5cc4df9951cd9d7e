"""What the rows of a leaderboard are summed up by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffusion_ood.detection.metrics import weighted_metrics

RESAMPLES, SEED = 1000, 0


def mean(
    sets: Mapping[str, Mapping[str, Mapping[str, float]]],
    draws: Mapping[str, NDArray[np.float64]],
    names: Sequence[str],
) -> dict[str, Any]:
    """The means over some sets of each metric, that of the AUROC with the interval of resamples."""
    if not names:
        return {}
    means = {
        metric: {"value": float(np.mean([sets[name][metric]["value"] for name in names]))}
        for metric in sets[names[0]]
    }
    low, high = np.quantile(np.mean([draws[name][1:] for name in names], 0), [0.025, 0.975])
    means["auroc"] |= {"low": float(low), "high": float(high)}
    return means


def mark(table: Sequence[dict[str, Any]]) -> None:
    """Name in each row the sets on which a control is better."""
    controls = [row for row in table if row["kind"] == "control"]
    for row in table:
        row["below_control"] = [
            name
            for name, found in row["sets"].items()
            if row["kind"] not in ("control", "ceiling")
            and any(c["sets"][name]["auroc"]["value"] > found["auroc"]["value"] for c in controls)
        ]


def resampled(inside: pd.Series, outside: pd.Series) -> NDArray[np.float64]:
    """The AUROC of the images, then of resamples, which are the same for sets of equal sizes."""
    rng = np.random.default_rng(SEED)

    def weights(number: int) -> NDArray[np.float64]:
        drawn = rng.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
        return np.concatenate([np.ones((1, number)), drawn])

    of_in, of_out = weights(len(inside)), weights(len(outside))
    found = weighted_metrics(inside.to_numpy(), outside.to_numpy(), of_in, of_out)
    return found["auroc"]
