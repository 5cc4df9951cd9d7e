"""What is reported: for each image one number a target, made from its rows of the score table.

Every score averaged over start points, z-scored or not, is a target. Scores whose names end in
`_global` or `_local` compare with one level at a time: each level alone is a target too, under the
name `score@t`, and as it is in the table, since the order of images at one level is that of their
z-scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from diffusion_ood.detection import calibration
from diffusion_ood.detection.calibration import Calibration
from diffusion_ood.detection.weighting import BOTH
from diffusion_ood.errors import UserError

LEVEL_BY_LEVEL = ("_global", "_local")
HEADLINES = (BOTH, "mse", "logit_l1_global")  # the first that exists is the headline


def image_targets(
    table: pd.DataFrame, calibrated: Calibration, z_score: bool, headline: str | None
) -> pd.DataFrame:
    """The targets of each image; higher is more out of distribution.

    Args:
        table: a score table.
        calibrated: by the validation images.
        z_score: whether to average z-scores over start points, or the scores themselves.
        headline: the target that comes first; None for the first of `HEADLINES`.

    Returns:
        Index: filename, in the order in which the table first names it. Columns: the targets.

    Raises:
        UserError: as `Calibration.image_scores`, or a headline that is no target.
    """
    columns = list(calibrated.mean.columns)
    levels = calibration.levels(table, columns)
    if z_score:
        scores = calibrated.image_scores(table)
    else:
        calibrated.z_scores(table)  # refuses other start points
        scores = levels.groupby(level="filename", sort=False).mean()
    for column in columns:
        if str(column).endswith(LEVEL_BY_LEVEL):
            for t in calibrated.mean.index:
                scores[f"{column}@{t}"] = levels[column].xs(t, level="t").reindex(scores.index)
    names = [str(name) for name in scores.columns]
    first = _headline(names, headline)
    return scores[[first, *(name for name in names if name != first)]]


def _headline(names: Sequence[str], asked: str | None) -> str:
    if asked is None:
        return next((name for name in HEADLINES if name in names), names[0])
    if asked not in names:
        raise UserError(f"`headline`: found {asked!r}, expected one of {', '.join(names)}")
    return asked
