"""One decision for a group of images: a patient, a scan.

A group's score is the mean of the highest quarter of its images' scores, rounded up: one bad slice
of four decides alone, and a shift of all shows nearly as well as in their mean. The maximum sees
one slice of many better, but misses shifts where scores have heavy tails (docs/monitoring.md). Its
p-value is conformal against the same statistic of validation groups. It holds where groups are
exchangeable, sizes included, however the images of a group depend on each other. The smallest of
the images' p-values would call nearly every large group out of distribution.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from diffusion_ood.calibration.conformal import doubts, finite_scores, p_values
from diffusion_ood.data.groups import group_name

PART = 4  # the highest 1 / PART of a group's scores count
SIZE_RATIO = 2  # of median sizes, from which groups are not comparable


def group_names(names: Sequence[str], regex: str | None) -> list[str]:
    """The group of each name: what the regular expression's first group, or else all of it, finds.

    Without one it is the name's scan, see `data.groups`.

    Raises:
        UserError: no regular expression, or a name in which it finds nothing.
    """
    return [group_name(name, regex) for name in names]


def group_scores(scores: ArrayLike, groups: Sequence[Hashable]) -> pd.Series[float]:
    """The mean of the highest quarter of each group's scores, rounded up; see the module.

    Args:
        scores: `(N,)` one of each image.
        groups: the group of each image.

    Returns:
        Index: groups, in order of first appearance.

    Raises:
        ValueError: no scores, one that is not finite, or another number of groups.
    """
    values = finite_scores(scores, "groups")
    if len(groups) != values.size:
        raise ValueError(f"found {len(groups)} groups of {values.size} scores, expected as many")
    codes, names = pd.factorize(np.asarray(groups, dtype=object))
    sizes = np.bincount(codes)
    kept = -(-sizes // PART)
    order = np.lexsort((-values, codes))  # by group, the highest score first
    rank = np.arange(values.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    top = order[rank < np.repeat(kept, sizes)]
    return pd.Series(np.bincount(codes[top], weights=values[top]) / kept, index=names)


def group_p_values(
    scores: ArrayLike,
    groups: Sequence[Hashable],
    val_scores: ArrayLike,
    val_groups: Sequence[Hashable],
) -> pd.DataFrame:
    """A conformal p-value for each group.

    Args:
        scores: `(N,)` one of each image.
        groups: the group of each image.
        val_scores: `(n,)` one of each validation image.
        val_groups: the group of each validation image.

    Returns:
        Columns group, num_images, score and p_value; groups in order of first appearance.

    Raises:
        ValueError: as `group_scores`.
    """
    found = group_scores(scores, groups)
    return pd.DataFrame(
        {
            "group": found.index,
            "num_images": _sizes(groups).reindex(found.index).to_numpy(),
            "score": found.to_numpy(),
            "p_value": p_values(found, group_scores(val_scores, val_groups)),
        }
    )


def group_doubts(
    groups: Sequence[Hashable], val_groups: Sequence[Hashable], target_fpr: float
) -> Iterator[str]:
    """What is doubtful about the p-values of groups, in sentences; arguments as `group_p_values`.

    Doubtful are few validation groups, see `conformal.doubts`, and sizes that differ, because the
    highest quarter of few scores varies more than that of many.
    """
    sizes, val_sizes = _sizes(groups), _sizes(val_groups)
    yield from doubts(len(val_sizes), target_fpr, [], "group")
    if not len(sizes):
        return
    small, large = sorted((sizes.median(), val_sizes.median()))
    if large >= SIZE_RATIO * small:
        yield (
            f"half of the groups have at most {sizes.median():g} images, half of the validation "
            f"groups at most {val_sizes.median():g}: p-values of groups are comparable only where "
            "their sizes are alike"
        )


def _sizes(groups: Sequence[Hashable]) -> pd.Series[int]:
    """The number of images of each group."""
    return pd.Series(groups, dtype=object).value_counts()
