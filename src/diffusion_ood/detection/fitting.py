"""Evidence of validation images: of each method alone, and of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd

from diffusion_ood.calibration.evidence import AnyOf, Evidence, kind_of
from diffusion_ood.calibration.joined import members
from diffusion_ood.detection.folders import MAIN
from diffusion_ood.detection.image_scores import fit_targets
from diffusion_ood.options import DetectOptions


def fit_evidence(
    features: pd.DataFrame, directed: Mapping[str, bool]
) -> tuple[Evidence, dict[str, Evidence]]:
    """What decides, and what each method alone says.

    Methods whose kinds of evidence `calibration.joined` knows are joined by its rule, if there are
    two of them. Each other method is a kind of its own, of which one that is unusual is enough.

    Args:
        features: of validation images, columns (`method/column`, t).
        directed: by method, whether larger numbers are the more unusual ones.

    Raises:
        UserError: too few images, or features or scores that do not vary.
    """
    alone = {name: _of_method(features, name, known) for name, known in directed.items()}
    kinds = members(pd.MultiIndex.from_tuples(list(features.columns)))
    taken = {name.split("/")[0] for of_kind in kinds.values() for name, _ in of_kind}
    if len(alone) == 1:
        return next(iter(alone.values())), alone
    if len(taken) < 2:
        taken = set()
    parts = {k: (part.kind, part.columns) for k, part in alone.items() if k not in taken}
    if taken:
        joined = features.loc[:, _owners(features).isin(taken)]
        if not parts:
            return Evidence.fit("joined", joined), alone
        parts["joined"] = "joined", list(joined.columns)
    return Evidence.fit("any_of", features, partial(AnyOf, parts)), alone


def _of_method(features: pd.DataFrame, name: str, directed: bool) -> Evidence:
    """What ood_detection.py would decide by, were this the only method."""
    own = features.loc[:, _owners(features) == name]
    plain = own.rename(columns=lambda column: column.split("/", 1)[1], level=0)
    joint = None if name == MAIN else directed
    primary = fit_targets(plain, DetectOptions(), joint=joint)[0]
    names = [f"{name}/{column}" for column in primary.columns]
    return Evidence.fit(kind_of(primary.head), own[names])


def _owners(features: pd.DataFrame) -> pd.Index[str]:
    """The method of each column."""
    return features.columns.get_level_values(0).str.split("/", n=1).str[0]
