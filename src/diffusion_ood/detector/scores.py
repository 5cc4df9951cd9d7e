"""What a detector says of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """What a detector says of n images.

    Attributes:
        score: higher is more out of distribution, float64 (n,).
        p_value: the share of in-distribution images that score as high, float64 (n,).
        is_ood: whether the p-value is at most the detector's `target_fpr`, bool (n,).
        loudest: the method by which each image is the most unusual (n,).
        by_method: the score by each method alone, float64 (n, methods).
        keys: a digest of each image's content (n,).
        maps: where each image is unusual, float32 (n, *S), if that was asked for.
    """

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_ood: NDArray[np.bool_]
    loudest: Sequence[str]
    by_method: pd.DataFrame
    keys: Sequence[str]
    maps: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.score)


def together(parts: Sequence[Scores]) -> Scores:
    """The scores of several batches, of which there is at least one."""
    joint: dict[str, Any] = {}
    for field in dataclasses.fields(Scores):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], np.ndarray):
            joint[field.name] = np.concatenate(values)
        elif values[0] is None:
            joint[field.name] = None
        elif isinstance(values[0], pd.DataFrame):
            joint[field.name] = pd.concat(values, ignore_index=True)
        else:
            joint[field.name] = [value for part in values for value in part]
    return Scores(**joint)
