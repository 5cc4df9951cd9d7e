"""Features of images, and what every head has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.words import counted

if TYPE_CHECKING:
    from typing_extensions import Self

KEY_COLUMNS = ("filename", "t", "repeat")

MIN_VALIDATION = 4
"""Images that are enough to fit any head, and joined evidence, with one held out."""

Matrix = NDArray[np.float64]
State = dict[str, Any]


class Head(Protocol):
    """Makes one score of an image's features; fitted on in-distribution images alone.

    Features have the index filename and the columns (column, t), see `features`.
    """

    def fit(self, features: pd.DataFrame) -> Self:
        """Fit to in-distribution images.

        Raises:
            UserError: fewer than two images, or features that do not vary.
        """

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """The score of each image, indexed by filename; higher is more out of distribution.

        Raises:
            UserError: other features than those that the head was fitted on.
        """

    def state_dict(self) -> State:
        """Everything that was fitted: arrays, numbers and lists of text."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another head of this class was fitted to."""


def score_columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold scores: all but filename, type, t and repeat."""
    return [name for name in map(str, table.columns) if name not in (*KEY_COLUMNS, "type")]


def check_finite(table: pd.DataFrame, whose: str = "") -> None:
    """Raise UserError at the first score of a table that is not finite, and say whose it is."""
    scores = table[score_columns(table)]
    wrong = ~np.isfinite(scores.to_numpy(dtype=np.float64))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UserError(
            f"{table['filename'].iloc[row]}, t = {table['t'].iloc[row]}: {whose}"
            f"{scores.columns[column]} is {scores.iloc[row, column]}, expected a finite number"
        )


def features(table: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The measurements of each image as one row, averaged over repeats.

    Args:
        table: a score table, one row for each (filename, t) or (filename, t, repeat).
        columns: the scores to take; None for all.

    Returns:
        Index: filename, in order of first appearance. Columns: (column, t); t rises in each column.

    Raises:
        UserError: a missing column, a value that is not finite, or an image without a t that other
            images have.
    """
    columns = score_columns(table) if columns is None else list(columns)
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"the score table has no column {missing[0]}")
    check_finite(table[["filename", "t", *columns]])
    wide = table.pivot_table(index="filename", columns="t", values=columns).reindex(
        index=table["filename"].unique(),
        columns=pd.MultiIndex.from_product([columns, np.unique(table["t"])]),
    )
    lacking = np.argwhere(wide[columns[0]].isna().to_numpy())
    if len(lacking):
        image, t = wide.index[lacking[0, 0]], wide.columns[lacking[0, 1]][1]
        raise UserError(f"{image} lacks the start point t = {t}, which other images have")
    return wide


def too_few(number: int) -> UserError:
    """An error about so many validation images, with a number that is enough for every head."""
    return UserError(
        f"found {counted(number, 'validation image')}, expected at least {MIN_VALIDATION}, see "
        "`validation_ids` and `first_n_val`"
    )


def as_features(
    values: Matrix | NDArray[np.float32],
    draws: Sequence[tuple[int, int]],
    columns: Sequence[str],
    prefix: str = "",
) -> pd.DataFrame:
    """The same as `features`, of measurements that were never a table.

    Args:
        values: shape `(n, draws, columns)`.
        draws: (t, repeat) of each draw, rising.
        columns: the names of the columns.
        prefix: what stands before each name.

    Returns:
        Index: 0 to n - 1. Columns: (column, t); t rises in each column.
    """
    times = np.array([t for t, _ in draws])
    levels = np.unique(times)
    means = [np.asarray(values, np.float64)[:, times == t].mean(axis=1) for t in levels]
    names = pd.MultiIndex.from_product([[f"{prefix}{c}" for c in columns], levels])
    flat = np.stack(means, axis=2).reshape(len(values), len(names))
    return pd.DataFrame(flat, columns=names)


def check_features(found: pd.DataFrame, expected: pd.MultiIndex) -> None:
    """Raise UserError where features are not those that were fitted, naming column or t."""
    assert isinstance(found.columns, pd.MultiIndex)
    sides = ((found.columns, expected, "has"), (expected, found.columns, "lacks"))
    for columns, others, verb in sides:
        for level, noun in ((0, "the column"), (1, "the start point t =")):
            extra = columns.get_level_values(level).difference(others.get_level_values(level))
            if len(extra):
                raise UserError(
                    f"{found.index[0]} {verb} {noun} {extra[0]}, unlike the validation images"
                )
    if not found.columns.equals(expected):
        raise UserError("found the features in another order than those of the validation images")


class StandardisedHead:
    """A head on standardised features: (x − mean) / std with ddof = 1.

    A subclass says what is fitted to standardised features and how they are scored. What it fits
    is kept in `fitted`, beside `columns`, `t`, `mean`, `std` and `varies`.
    """

    constant: Literal["drop", "refuse", "keep"] = "drop"
    """What happens to a feature that is the same for all images; "drop" refuses only if all are,
    and so does "refuse" where it is 0, which a decoder that quantises makes of a small error."""

    fitted: State = {}  # noqa: RUF012 - never changed in place: `fit` and loading replace it

    def fit(self, features: pd.DataFrame) -> Self:
        """See `Head`."""
        x = features.to_numpy(dtype=np.float64)
        if len(x) < 2:
            raise too_few(len(x))
        # Not std == 0, which equal numbers may miss by a rounding error.
        varies = x.min(axis=0) < x.max(axis=0)
        none, exact = not varies.any(), ~x.any(axis=0)
        wrong = {
            "drop": none & ~varies,
            "refuse": ~varies & (none | ~exact),
            "keep": varies & False,
        }
        if wrong[self.constant].any():
            column, t = features.columns[np.argmax(wrong[self.constant])]
            raise UserError(
                f"{column} at t = {t} is the same for all {len(x)} validation images, "
                "expected values that differ"
            )
        self.fitted = {
            "columns": [str(column) for column, _ in features.columns],
            "t": np.array([t for _, t in features.columns], dtype=np.int64),
            "mean": x.mean(axis=0),
            "std": x.std(axis=0, ddof=1),
            "varies": varies,
        }
        self.fitted |= self._fit(self.standardise(features))
        return self

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """See `Head`."""
        return pd.Series(self._score(self.standardise(features)), index=features.index)

    def values(self, features: pd.DataFrame) -> Matrix:
        """The values `(images, features)`; UserError as `score`, NotFittedError before `fit`."""
        if not self.fitted:
            from sklearn.exceptions import NotFittedError  # detection alone needs no scikit-learn

            raise NotFittedError(f"{type(self).__name__} is not fitted")
        fitted = pd.MultiIndex.from_arrays([self.fitted["columns"], self.fitted["t"]])
        check_features(features, fitted)
        return features.to_numpy(dtype=np.float64)

    def standardise(self, features: pd.DataFrame) -> Matrix:
        """The standardised features that vary, `(images, features)`; UserError as `score`."""
        values = self.values(features)
        kept = self.fitted["varies"]
        x = values[:, kept]
        return (x - self.fitted["mean"][kept]) / self.fitted["std"][kept]

    def by_level(self, values: Matrix) -> Matrix:
        """Sums over the columns at each t, `(images, levels)`, of all or of varying features."""
        t, varies = self.fitted["t"], self.fitted["varies"]
        t = t if values.shape[1] == len(t) else t[varies]
        return np.stack([values[:, t == level].sum(axis=1) for level in np.unique(t)], axis=1)

    def state_dict(self) -> State:
        """See `Head`."""
        return dict(self.fitted)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Head`."""
        self.fitted = dict(state)

    def _fit(self, z: Matrix) -> State:
        """What is fitted to standardised features `(images, features)`."""
        return {}

    def _score(self, z: Matrix) -> Matrix:
        """The scores `(images,)` of standardised features."""
        raise NotImplementedError
