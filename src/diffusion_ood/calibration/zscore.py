"""Z-scores against the validation images: how unusual is an error for its noise level?

    z_{i,t} = (x_{i,t} - mean_t) / std_t,    score_i = mean over t of z_{i,t}

with the mean and the standard deviation of level t over the validation images (Graham et al.,
"Denoising diffusion models for out-of-distribution detection", CVPR Workshops 2023, section 3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diffusion_ood.detection import weighting
from diffusion_ood.errors import UserError

HIGHEST = 0.25
"""Share of the start points that `of_the_highest` counts."""


@dataclass(frozen=True)
class Calibration:
    """How an image is measured against the validation images.

    Attributes:
        mean, std: of each score over the validation images, ddof = 1: index t, columns scores.
        weights: of z-scores in what is reported: index (score, t), columns targets.
        counted: share of an image's start points that count, the most unusual ones of each target.
    """

    mean: pd.DataFrame
    std: pd.DataFrame
    weights: pd.DataFrame
    counted: float = 1.0

    def z_scores(self, table: pd.DataFrame) -> pd.DataFrame:
        """The z-scores of each image at each t, indexed by (filename, t).

        Raises:
            UserError: a missing score, or an image whose t differ from those of validation.
        """
        found = levels(table, list(self.mean.columns))
        _refuse_other_t(found, list(self.mean.index))
        t = found.index.get_level_values("t")
        return (found - self.mean.loc[t].to_numpy()) / self.std.loc[t].to_numpy()

    def image_scores(self, table: pd.DataFrame) -> pd.DataFrame:
        """The targets of each image: weighted sums of its z-scores; higher is more OOD.

        Where only some start points count, these are the highest of the image, for each target of
        its own, and as many times as heavy.

        Returns:
            Index: filename, in the order in which the table first names it. Columns: the targets.

        Raises:
            UserError: as `z_scores`.
        """
        z = self._z_by_image(table)
        if self.counted == 1:
            return z @ self.weights
        return pd.DataFrame({name: self._highest(z * w) for name, w in self.weights.items()})

    def _highest(self, weighted: pd.DataFrame) -> pd.Series:
        """The sum over the start points that count, scaled as if all of them were like these.

        Args:
            weighted: z-scores times their weights: index filename, columns (score, t).
        """
        by_t = weighted.T.groupby(level="t").sum().T
        num_counted = math.ceil(self.counted * by_t.shape[1])
        highest = np.sort(by_t, axis=1)[:, -num_counted:]
        return pd.Series(by_t.shape[1] * highest.mean(1), index=by_t.index)

    def of_the_highest(self) -> Calibration:
        """The same by the `HIGHEST` share of each image's start points."""
        return dataclasses.replace(self, counted=HIGHEST)

    def separating(self, val: pd.DataFrame, patched: pd.DataFrame) -> Calibration:
        """The same with the weights of `weighting.separation`.

        Args:
            val: the score table of the validation images.
            patched: that of the same images with a foreign patch.

        Raises:
            UserError: as `z_scores`.
        """
        weights = weighting.separation(self._z_by_image(val), self._z_by_image(patched))
        return dataclasses.replace(self, weights=weights)

    def _z_by_image(self, table: pd.DataFrame) -> pd.DataFrame:
        """Z-scores: index filename as the table first names it, columns (score, t) as weights."""
        z = self.z_scores(table)
        filenames = z.index.get_level_values("filename").unique()
        wide = z.reset_index().pivot_table(index="filename", columns="t", dropna=False)
        return wide.reindex(index=filenames, columns=self.weights.index)


def fit(
    val_table: pd.DataFrame,
    columns: Sequence[str],
    *,
    need_spread: bool = True,
) -> Calibration:
    """The calibration by the validation images' `columns`.

    Args:
        val_table: the score table of the validation images.
        columns: the scores.
        need_spread: whether z-scores will be asked for.

    Raises:
        UserError: fewer than two images, images with different t, or, where a spread is needed, a
            score that is the same for all images at some t.
    """
    found = levels(val_table, columns)
    num_images = found.index.get_level_values("filename").nunique()
    if num_images < 2:
        raise UserError(f"found {num_images} validation image, expected at least 2")
    by_t = found.groupby(level="t")
    mean, std = by_t.mean(), by_t.std(ddof=1)
    _refuse_other_t(found, list(mean.index))
    # Not std == 0: of equal numbers it may be a rounding error away from 0.
    for column in columns if need_spread else ():
        constant = mean.index[by_t[column].min() == by_t[column].max()]
        if len(constant):
            raise UserError(
                f"{column} at t = {constant[0]} is the same for all {num_images} "
                "validation images, expected a spread to measure others by"
            )
    cells = pd.MultiIndex.from_product([mean.columns, mean.index])
    return Calibration(mean, std, weighting.equal(cells))


def with_both(z: pd.DataFrame) -> pd.DataFrame:
    """Z-scores with the column `both`, where the two that it is the sum of are there."""
    if set(weighting.SUMMED) <= set(z.columns):
        return z.assign(**{weighting.BOTH: z[list(weighting.SUMMED)].sum(axis=1)})
    return z


def select_t(table: pd.DataFrame, min_t: int, max_t: int, t_skip: int) -> pd.DataFrame:
    """The rows with min_t <= t <= max_t, and of their distinct t every `t_skip`-th, upwards.

    Raises:
        UserError: no row is left.
    """
    distinct = sorted(table["t"].unique())
    kept = [t for t in distinct if min_t <= t <= max_t][::t_skip]
    if not kept:
        raise UserError(
            f"`min_t` {min_t}, `max_t` {max_t}: none of the start points lies there, "
            f"expected some of {distinct[0]} to {distinct[-1]}"
        )
    return table[table["t"].isin(kept)]


def levels(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The mean over repeats, indexed by (filename, t) in order of first appearance."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise UserError(f"the score table has no column {missing[0]}, which validation has")
    if "repeat" not in table:
        return table.set_index(["filename", "t"])[list(columns)]
    return table.groupby(["filename", "t"], sort=False)[list(columns)].mean()


def _refuse_other_t(levels: pd.DataFrame, expected: list[int]) -> None:
    t = levels.index.get_level_values("t")
    filenames = levels.index.get_level_values("filename")
    unknown = ~t.isin(expected)
    if unknown.any():
        raise UserError(
            f"{filenames[unknown][0]} has the start point t = {t[unknown][0]}, "
            "which the validation images do not have"
        )
    sizes = levels.groupby(level="filename", sort=False).size()
    short = sizes.index[sizes != len(expected)]
    if len(short):
        missing = sorted(set(expected) - set(t[filenames == short[0]]))
        raise UserError(f"{short[0]} lacks the start point t = {missing[0]} of validation")
