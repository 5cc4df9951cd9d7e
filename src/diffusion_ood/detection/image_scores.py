"""Image scores: for each image one number a target, made of its features by a fitted head.

Targets are every column alone, `both` of the paper, and, where asked for, further heads over all
columns. Columns whose names end in `_global` or `_local` compare with one level at a time: each of
their levels alone is a target too, `column@t`, unchanged from the table, since the order of images
at one level is that of their z-scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from diffusion_ood.calibration.base import Head
from diffusion_ood.calibration.conformal import held_out_scores
from diffusion_ood.calibration.gaussian import LogGaussian
from diffusion_ood.calibration.patched import PatchWeights
from diffusion_ood.calibration.zscore import Average, TopLevels, ZScore
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions
from diffusion_ood.options.detection import ALL_PUBLISHED
from diffusion_ood.registries import HEADS, PUBLISHED

BOTH = "both"
"""The paper's score: the sum of the mean z-scores of `SUMMED`."""

SUMMED = ("mse", "perceptual_difference")

ALL = "all"
"""Of all columns: the same sum where large numbers are unusual, without `BOTH` and single levels;
where the direction is not known, a Gaussian of their logarithms."""

LEVEL_BY_LEVEL = ("_global", "_local")
PRIMARY = (BOTH, ALL, "mse", "logit_l1_global")  # the first that exists is the primary score


@dataclass(frozen=True)
class Target:
    """A number that is reported of each image.

    Attributes:
        name: of the target.
        columns: the columns of the features that it is made of.
        t: the one level that it is made of; None for all.
        head: fitted on the validation images.
        val_scores: of the validation images; held out where the head remembers single images.
    """

    name: str
    columns: Sequence[str]
    t: int | None
    head: Head
    val_scores: pd.Series[float]

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """The number of each image; UserError as `Head.score`."""
        return self.head.score(_part(features, self.columns, self.t))


def fit_targets(
    val: pd.DataFrame,
    options: DetectOptions,
    patched: pd.DataFrame | None = None,
    *,
    joint: bool | None = None,
) -> list[Target]:
    """The targets that `options` ask for, fitted on validation images; the primary score first.

    Args:
        val, patched: features of the validation images, as they are and with patches.
        options: which targets, and how levels are weighted.
        joint: whether large numbers are the unusual ones, where there is to be a target `ALL`.

    Raises:
        UserError: as `Head.fit`.
    """
    columns = [str(column) for column in val.columns.get_level_values(0).unique()]
    by_level = [column for column in columns if column.endswith(LEVEL_BY_LEVEL)]
    groups: dict[str, Sequence[str]] = {column: [column] for column in columns}
    if options.z_score and set(SUMMED) <= set(columns):
        groups[BOTH] = SUMMED
    elif options.z_score and joint and len(columns) > 1 and not by_level:
        groups[ALL] = columns
    found = []
    if options.z_score and joint is False:
        head: Head = LogGaussian().fit(val)
        found.append(Target(ALL, columns, None, head, held_out_scores(LogGaussian, val)))
    for name, members in groups.items():
        head = _head(options, members, patched).fit(features := _part(val, members))
        found.append(Target(name, members, None, head, head.score(features)))
    for column in by_level:
        for t in val[column].columns:
            average = Average().fit(features := _part(val, [column], t))
            found.append(Target(f"{column}@{t}", [column], t, average, average.score(features)))
    for name, (members, new_head) in asked_heads(options.heads, columns).items():
        head = new_head().fit(features := _part(val, members))
        found.append(Target(name, members, None, head, held_out_scores(new_head, features)))
    names = [target.name for target in found]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"found two scores of the name {again[0]}, expected columns of other names")
    primary = next(name for name in (options.headline, *PRIMARY, names[0]) if name in names)
    return sorted(found, key=lambda target: target.name != primary)


def asked_heads(
    heads: Sequence[str], columns: Sequence[str]
) -> dict[str, tuple[Sequence[str], Callable[[], Head]]]:
    """Of the heads asked for those that apply to these columns: what each takes, and makes it."""
    names = [part for name in heads for part in (PUBLISHED if name == ALL_PUBLISHED else [name])]
    found: dict[str, tuple[Sequence[str], Callable[[], Head]]] = {}
    for name in names:
        if name in HEADS:
            found[name] = columns, HEADS[name]
        elif members := PUBLISHED[name].found(columns):
            found[name] = members, PUBLISHED[name]
    return found


def z_by_level(val: pd.DataFrame, features: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The sum over columns of z-scores by the validation images: index filename, columns t.

    Not finite at a level at which all validation images are the same.
    """
    z = (features - val.mean()) / val.std(ddof=1)
    return sum((z[column] for column in columns[1:]), start=z[columns[0]])


def select_t(table: pd.DataFrame, min_t: int, max_t: int, t_skip: int) -> pd.DataFrame:
    """The rows with min_t <= t <= max_t, and of their distinct t every `t_skip`-th, upwards.

    Those of the clean image, t = -1, stay: it is no start point.

    Raises:
        UserError: no row is left.
    """
    distinct = sorted(table["t"].unique())
    kept = [t for t in distinct if min_t <= t <= max_t and t >= 0][::t_skip]
    kept += [t for t in distinct if t < 0]
    if not kept:
        raise UserError(
            f"`min_t` {min_t}, `max_t` {max_t}: found no start point between them, "
            f"expected some of {distinct[0]} to {distinct[-1]}"
        )
    return table[table["t"].isin(kept)]


def _part(features: pd.DataFrame, columns: Sequence[str], t: int | None = None) -> pd.DataFrame:
    """The features of some columns, at one t or at all."""
    found = features[list(columns)]
    return found if t is None else found.loc[:, found.columns.get_level_values(1) == t]


def _head(options: DetectOptions, columns: Sequence[str], patched: pd.DataFrame | None) -> Head:
    """A head that weights levels as the options say."""
    if not options.z_score:
        return Average()
    if patched is not None:
        return PatchWeights(_part(patched, columns))
    return TopLevels() if options.level_weights == "highest" else ZScore()
