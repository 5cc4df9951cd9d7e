"""Decisions whose false-positive rate is known beforehand.

    p(s) = (1 + #{validation scores >= s}) / (n + 1)

is a conformal p-value (Vovk, Gammerman and Shafer 2005; Bates et al., "Testing for outliers with
conformal p-values", Annals of Statistics 2023, equation 2): for an in-distribution image that is
exchangeable with the n validation images, P(p <= α) <= α. Where the validation images also
set the means and deviations of the z-scores, this holds up to terms of order 1/n. A head that
remembers single images, such as nearest neighbours, needs `held_out_scores`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from diffusion_ood.calibration.base import Head, too_few
from diffusion_ood.runtime.words import counted

NUM_FOLDS = 10


def p_values(scores: ArrayLike, val_scores: ArrayLike) -> NDArray[np.float64]:
    """The p-value `(N,)` of each score; ties count against an alarm.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    val = np.sort(finite_scores(val_scores, "val"))
    at_least = val.size - np.searchsorted(val, finite_scores(scores, "test"), side="left")
    return (1 + at_least) / (val.size + 1)


def finite_scores(scores: ArrayLike, name: str) -> NDArray[np.float64]:
    """`scores` as a float64 vector; ValueError when empty or not finite, which names the set."""
    vector = np.asarray(scores, dtype=np.float64).ravel()
    if not vector.size:
        raise ValueError(f"the set {name!r} has no scores, expected at least one")
    if not np.isfinite(vector).all():
        raise ValueError(f"the set {name!r} has a score that is not finite")
    return vector


def held_out_scores(new_head: Callable[[], Head], features: pd.DataFrame) -> pd.Series[float]:
    """The score of each image by a head that was fitted on the images of the other folds.

    Every `NUM_FOLDS`-th image is in the same fold; of fewer images each is a fold of its own.

    Raises:
        UserError: too few images, see `Head.fit`.
    """
    if len(features) < 3:
        raise too_few(len(features))
    folds = np.arange(len(features)) % NUM_FOLDS
    scores = pd.Series(np.nan, index=features.index)
    for fold in np.unique(folds):
        out = folds == fold
        scores[out] = new_head().fit(features[~out]).score(features[out])
    return scores


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


def threshold(val_scores: ArrayLike, target_fpr: float) -> float | None:
    """The score above which an image is called OOD; None where no score is high enough."""
    val = np.sort(finite_scores(val_scores, "val"))
    k = _beyond(val.size, target_fpr)
    return float(val[val.size - k]) if k else None


def _beyond(num_val: int, target_fpr: float) -> int:
    """The threshold's rank from above, k = ⌊α (n + 1)⌋ by the same quotients as the p-values."""
    return int(((1 + np.arange(num_val)) / (num_val + 1) <= target_fpr).sum())


def doubts(
    num_val: int, target_fpr: float, alarms: ArrayLike, noun: str = "image"
) -> Iterator[str]:
    """What is doubtful about decisions at the p-value α, in sentences.

    With k = ⌊α (n + 1)⌋ the false-positive rate of the threshold that n validation images set is
    distributed as Beta(k, n + 1 − k) over such sets (Vovk, "Conditional validity of inductive
    conformal predictors", 2012). Of m test images that are exchangeable with them, scores without
    ties, BetaBinomial(m, k, n + 1 − k) are called OOD. Doubtful is k = 0, which calls nothing OOD,
    k below 5, and a number of alarms that is unlikely at the 5 % level.

    Args:
        num_val: n, the number of validation images.
        target_fpr: α, the share of in-distribution images that may be called OOD.
        alarms: `(m,)` whether each in-distribution test image is called OOD.
        noun: what is decided on.
    """
    k = _beyond(num_val, target_fpr)
    if k == 0:
        found_val = counted(num_val, f"validation {noun}")
        yield (
            f"`target_fpr` {target_fpr:g} is too small for {found_val}: "
            f"the smallest possible p-value is {1 / (num_val + 1):.2g}, so nothing is ever called "
            f"OOD; at least {math.ceil(1 / target_fpr) - 1} are needed"
        )
        return
    if k < 5:
        low, high = stats.beta.ppf([0.025, 0.975], k, num_val + 1 - k)
        yield (
            f"the threshold is set by {counted(num_val, f'validation {noun}')} alone: its false-"
            f"positive rate lies between {100 * low:.1f} and {100 * high:.1f} %, "
            "with 95 % confidence"
        )
    found = np.asarray(alarms, dtype=bool)
    law = stats.betabinom(found.size, k, num_val + 1 - k)
    tail = min(1.0, 2 * min(law.cdf(found.sum()), law.sf(found.sum() - 1)))
    if tail < 0.05:
        yield (
            f"{found.sum()} of {found.size} in-distribution {noun}s are called OOD, "
            f"{100 * found.sum() / found.size:.1f} % where {100 * target_fpr:g} % was the target: "
            f"this has a probability of {tail:.2g} if they come from the same distribution as the "
            f"validation {noun}s, so they may come from another"
        )
