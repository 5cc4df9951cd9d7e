"""Metrics and decisions of groups of images: of scans whose slices were scored, of patients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from diffusion_ood.calibration.groups import group_doubts, group_names, group_p_values
from diffusion_ood.data.places import Place
from diffusion_ood.detection import metrics
from diffusion_ood.detection.assessment import Assessment, Frames
from diffusion_ood.detection.metrics import Interval
from diffusion_ood.options import DetectOptions


@dataclass(frozen=True)
class GroupResults:
    """What the primary score says of groups, see `calibration.groups`.

    Attributes:
        level: `scan`, or `group` by an expression.
        decisions: of each set but val, with the columns of `group_p_values` and is_ood.
        metrics: of each OOD set.
        warnings: in sentences.
    """

    level: str
    decisions: Frames
    metrics: dict[str, dict[str, Interval]]
    warnings: list[str]

    @property
    def called_ood(self) -> dict[str, Interval]:
        """The share of a set's groups that are called OOD."""
        return {name: metrics.rate(frame["is_ood"]) for name, frame in self.decisions.items()}

    def as_json(self) -> dict[str, Any]:
        """The numbers, without those of single groups."""
        called = {name: dataclasses.asdict(share) for name, share in self.called_ood.items()}
        return {
            "num_groups": {name: len(frame) for name, frame in self.decisions.items()},
            "realised_fpr": called.pop("in"),
            "detection_rates": called,
            "sets": {
                name: {metric: dataclasses.asdict(value) for metric, value in found.items()}
                for name, found in self.metrics.items()
            },
            "warnings": self.warnings,
        }


def assess_groups(results: Assessment, options: DetectOptions) -> Iterator[GroupResults]:
    """Scans where images are slices, and what `group_by` says; nothing where neither applies.

    Raises:
        UserError: an image in whose name the expression finds nothing.
    """
    if any(Place.of(str(name)).plane for name in results.scores["val"].index):
        yield _assessed(results, options, "scan", None)
    if options.group_by is not None:
        yield _assessed(results, options, "group", options.group_by)


def _assessed(
    results: Assessment, options: DetectOptions, level: str, pattern: str | None
) -> GroupResults:
    scores = {name: frame[results.primary] for name, frame in results.scores.items()}
    groups = {name: group_names(list(map(str, of.index)), pattern) for name, of in scores.items()}
    val, val_groups = scores.pop("val"), groups.pop("val")
    found: Frames = {}
    for name, of_set in scores.items():
        decided = group_p_values(of_set, groups[name], val, val_groups)
        found[name] = decided.assign(is_ood=decided["p_value"] <= options.target_fpr)
    draws = {"n_bootstrap": options.n_bootstrap, "seed": options.seed}
    of_sets = {
        name: metrics.evaluate(found["in"]["score"], frame["score"], **draws)
        for name, frame in found.items()
        if name != "in"
    }
    doubts = dict.fromkeys(
        doubt
        for name in found
        for doubt in group_doubts(groups[name], val_groups, options.target_fpr)
    )
    return GroupResults(level, found, of_sets, list(doubts))


def long_form(groups: Sequence[GroupResults], name: str) -> pd.DataFrame:
    """The decisions on the groups of a set, of all levels."""
    frames = [one.decisions[name].assign(level=one.level) for one in groups]
    return pd.concat(frames, ignore_index=True).astype({"is_ood": int})
