"""Options of `ood_detection.py`."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import OptionGroup, option, refuse_no_pattern
from diffusion_ood.registries import HEADS, PUBLISHED

ALL_PUBLISHED = "published"


@dataclass(frozen=True)
class DetectOptions(OptionGroup):
    """Detection: from score tables to metrics and decisions."""

    max_t: int = option("leave out start points above this t", 1000)
    min_t: int = option("leave out start points below this t", 0)
    t_skip: int = option("keep every N-th of the remaining start points", 1, least=1)
    z_score: bool = option(
        "average z-scores by the validation images over start points, rather than the scores "
        "themselves",
        True,
    )
    level_weights: Literal["equal", "highest", "patched"] = option(
        "how z-scores are weighted: equally; only those of the quarter of an image's start points "
        "that are most unusual; or so that they best show foreign patches on validation images "
        "(reconstruct.py `run_patched`)",
        "equal",
    )
    heads: tuple[str, ...] = option(
        f"further scores: over all columns of a table together, {', '.join(HEADS)}; of the "
        f"literature, over the columns of its own, {', '.join(PUBLISHED)}; published for all these",
        (),
        choices=ChainMap({ALL_PUBLISHED: ""}, PUBLISHED, HEADS),
    )
    headline: str | None = option(
        "score that decisions are made by; default: both, else all, else mse, else logit_l1_global",
        None,
    )
    out_data: tuple[str, ...] = option(
        "names of the OOD and the shifted sets; default: all in ood/", ()
    )
    groups: Path | None = option(
        "YAML file of groups of OOD sets, whose means are reported: near: [CIFAR100, TinyImageNet]",
        None,
        exists=True,
    )
    group_by: str | None = option(
        "regular expression whose first group, in a file's name, is its patient: metrics and "
        "decisions of these beside those of images; scans of which slices were taken have them "
        "without it",
        None,
    )
    target_fpr: float = option(
        "share of in-distribution images that may be called OOD", 0.05, above=0, below=1
    )
    n_bootstrap: int = option(
        "resamples for the 95 % intervals; 0 leaves them out", 1000, least=0, most=100_000
    )
    seed: int = option("seed of the resampling", 2, least=0)
    masks: Path | None = option(
        "folder of masks of lesions, PNG or NPY, by which the maps of equal names are measured",
        None,
        exists=True,
    )
    maps: Path | None = option(
        "folder of the maps, NPY; default: output_dir/model_name/maps", None, exists=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level_weights != "equal" and not self.z_score:
            raise UserError(
                "`level_weights`: has no effect with `z_score`=0; leave one of them out"
            )
        if self.group_by is not None:
            refuse_no_pattern(self.group_by)
        if self.maps is not None and self.masks is None:
            raise UserError("`maps`: found without `masks`, expected both")
