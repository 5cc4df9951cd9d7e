"""From a score to a decision whose false-positive rate is known beforehand.

    p(s) = (1 + #{validation scores >= s}) / (n + 1)

is a conformal p-value (Vovk, Gammerman and Shafer 2005; Bates et al., "Testing for outliers with
conformal p-values", Annals of Statistics 2023, equation 2): for an in-distribution image that is
exchangeable with the n validation images, P(p <= α) <= α. Here the validation images also set the
means and deviations of the z-scores, so this holds up to terms of order 1/n.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from diffusion_ood.detection.metrics import Interval, finite_scores

_Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def p_values(scores: ArrayLike, val_scores: ArrayLike) -> NDArray[np.float64]:
    """The p-value `(N,)` of each score; ties count against an alarm.

    Raises:
        ValueError: no scores, or one that is no finite number.
    """
    val = np.sort(finite_scores(val_scores, "val"))
    at_least = val.size - np.searchsorted(val, finite_scores(scores, "test"), side="left")
    return (1 + at_least) / (val.size + 1)


def decide(scores: pd.Series[float], val_scores: ArrayLike, target_fpr: float) -> pd.DataFrame:
    """Call an image out of distribution when its p-value is at most `target_fpr`.

    Args:
        scores: one score an image, indexed by filename.
        val_scores: scores of the validation images.
        target_fpr: share of in-distribution images that may be called OOD.

    Returns:
        Columns filename, score, p_value, is_ood (bool), in the order of `scores`.
    """
    p = p_values(scores, val_scores)
    return pd.DataFrame(
        {
            "filename": scores.index,
            "score": scores.to_numpy(),
            "p_value": p,
            "is_ood": p <= target_fpr,
        }
    )


def too_few_validation_images(num_val: int, target_fpr: float) -> str | None:
    """A sentence when no image can reach p <= `target_fpr`, as 1/(n + 1) is the least p-value."""
    if 1 / (num_val + 1) <= target_fpr:
        return None
    return (
        f"{num_val} validation images cannot support --target_fpr {target_fpr:g}: the smallest "
        f"possible p-value is {1 / (num_val + 1):.2g}, so no image is ever called OOD; at least "
        f"{math.ceil(1 / target_fpr) - 1} are needed"
    )


def rate(hits: ArrayLike) -> Interval:
    """The share of `hits` `(N,)` with its 95 % interval (Wilson 1927).

    (p̂ + z²/2n ± z √(p̂(1 - p̂)/n + z²/4n²)) / (1 + z²/n)
    """
    vector = np.asarray(hits, dtype=bool)
    n, p = vector.size, float(vector.mean())
    z = _Z_95
    centre = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    whole = 1 + z**2 / n
    return Interval(p, max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole))
