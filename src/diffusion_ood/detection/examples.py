"""Examples for a reader: the images with extreme scores, and those that were decided wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from diffusion_ood.detection.assessment import decide, measure
from diffusion_ood.detection.folders import table_path
from diffusion_ood.detection.table import read_table
from diffusion_ood.options import DetectOptions


def chosen_images(
    ood_dir: Path, name: str, per_kind: int, options: DetectOptions
) -> tuple[str, ...]:
    """The images of a set that a report shows, by its scores and those of the validation images.

    Raises:
        UserError: a table that is missing or wrong, or too few validation images.
    """
    tables = {each: read_table(table_path(ood_dir, each)) for each in ("val", name)}
    _, _, scores = measure(ood_dir, tables, options)
    decided = decide(scores, options.target_fpr)[name]
    return tuple(select_examples(decided, per_kind, is_in=name == "in")["filename"])


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
    most, rest = ranked.iloc[:per_kind], ranked.iloc[per_kind:]
    least = rest.tail(per_kind)
    between = rest.iloc[: len(rest) - len(least)]
    wrong = between[between["mistake"]]
    spread = np.linspace(0, len(wrong) - 1, min(per_kind, len(wrong))).round().astype(int)
    mistake = "false alarm" if is_in else "miss"
    kinds = {"most OOD": most, "least OOD": least, mistake: wrong.iloc[spread]}
    return pd.concat([rows.assign(kind=kind) for kind, rows in kinds.items()], ignore_index=True)
