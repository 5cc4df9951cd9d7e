"""Examples for a reader: the images with extreme scores, and those that were decided wrongly."""

from __future__ import annotations

import numpy as np
import pandas as pd

MOST, LEAST, FALSE_ALARM, MISS = "most OOD", "least OOD", "false alarm", "miss"


def select_examples(decided: pd.DataFrame, per_kind: int, *, is_in: bool) -> pd.DataFrame:
    """The images of a set to show, each once, and why; the same for the same decisions.

    The mistakes are taken evenly from the gravest to the narrowest of those that are not among the
    extremes.

    Args:
        decided: decisions on a set's images.
        per_kind: the most images of each kind: highest scores, lowest scores, mistakes.
        is_in: whether the set is in distribution, so that a mistake is a false alarm.

    Returns:
        Rows of `decided`, with the columns `kind` and `mistake` (bool); scores fall within a kind.
    """
    ranked = decided.sort_values("score", ascending=False, kind="stable")
    ranked = ranked.assign(mistake=ranked["is_ood"] == is_in)
    most = ranked.head(per_kind)
    least = ranked.iloc[per_kind:].tail(per_kind)
    rest = ranked.iloc[per_kind : len(ranked) - len(least)]
    wrong = rest[rest["mistake"]]
    spread = np.unique(
        np.linspace(0, len(wrong) - 1, min(per_kind, len(wrong))).round().astype(int)
    )
    kinds = {MOST: most, LEAST: least, FALSE_ALARM if is_in else MISS: wrong.iloc[spread]}
    return pd.concat([rows.assign(kind=kind) for kind, rows in kinds.items()], ignore_index=True)
