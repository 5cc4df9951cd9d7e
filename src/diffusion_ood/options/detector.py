"""Options of `diffusion-ood fit` and `diffusion-ood screen`."""

from __future__ import annotations

import re
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import (
    MAX_REPEATS,
    MAX_WORKERS,
    SEED,
    OptionGroup,
    option,
    refuse_no_pattern,
)
from diffusion_ood.options.reconstruction import JOINED, MIN_REFERENCE, NUM_LEVELS
from diffusion_ood.registries import METHODS, SCORES

DEVICE = "auto, cpu, cuda, cuda:1, mps, …"


@dataclass(frozen=True)
class DetectorOptions(OptionGroup):
    """The detector: what it measures, and the images that it is fitted to."""

    detector: Path = option("file to write")
    validation_ids: Path = option(
        "split CSV of in-distribution images that were not trained on; the more, the finer the "
        "p-values"
    )
    training_ids: Path | None = option(
        "split CSV that methods such as features learn from, best the training split; without it "
        "joined has no evidence of features",
        None,
    )
    methods: tuple[str, ...] = option(
        "what to measure; joined is several methods that share their network calls, as `budget` "
        "allows",
        (JOINED,),
        choices=ChainMap({JOINED: ""}, METHODS),
    )
    budget: int | None = option(
        "network calls an image of joined (default: 30) and of reconstruction", None, least=1
    )
    target_fpr: float = option(
        "share of in-distribution images that may be called OOD", 0.05, above=0, below=1
    )
    first_n_val: int | None = option("fit to the first N validation images alone", None, least=4)
    first_n_reference: int = option(
        "learn from the first N training images alone", 5_000, least=MIN_REFERENCE
    )
    num_levels: int = option("noise levels of other methods", NUM_LEVELS, least=1)
    repeats: int | None = option("draws of noise at each level", None, least=1, most=MAX_REPEATS)
    scores: tuple[str, ...] = option(
        "how far reconstructions are off: mse, perceptual; of a latent model also mse_latent, "
        "which decodes nothing, and mse_autoencoded (default: mse,perceptual, and mse_latent of a "
        "latent model)",
        (),
        choices=SCORES,
    )
    keep_names: bool = option(
        "keep the validation images' file names in the detector, which screening by groups needs",
        True,
    )
    eval_checkpoint: str = option("best, last, or the path of a checkpoint", "best")
    device: str = option(DEVICE, "auto")
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "of the network's arithmetic, whenever the detector is used", "fp32"
    )
    seed: int = option("seed of the noise", 2, **SEED)


@dataclass(frozen=True)
class ScreenOptions(OptionGroup):
    """Screening: which images, and what becomes of the decisions."""

    detector: Path = option("file of diffusion-ood fit", exists=True, positional=True)
    images: tuple[str, ...] = option(
        "images, folders of images, split CSVs or image lists, each a path or a URL such as "
        "s3://bucket/folder",
        positional=True,
    )
    output: Path | None = option(
        "folder of decisions.csv and report.html (default: screening; with `json` none)", None
    )
    json: bool = option("print a line of JSON for each image, and nothing else", False)
    exit_code: bool = option("end with the exit code 3 if any image is OOD", False)
    fdr: float | None = option(
        "call images OOD so that on average at most this share of them are false alarms, in place "
        "of the detector's rate (Benjamini and Hochberg)",
        None,
        above=0,
        below=1,
    )
    group_by: str | None = option(
        "regular expression whose first group, in a file's name, is its patient or scan: one "
        "decision for each, in groups.csv (default: of DICOM its patients, by pseudonyms)",
        None,
    )
    monitor: Path | None = option(
        "file of a stream over days: add these images to it, and say whether it has drifted", None
    )
    maps: Path | None = option(
        "folder for a map of each image, where it is unusual: as array, of volumes NIfTI, and "
        "as picture",
        None,
    )
    report_images: int = option("images in the report, the most unusual", 24, least=0, most=200)
    table: Literal["csv", "parquet"] = option(
        "decisions.csv, or decisions.parquet with the same columns, typed", "csv"
    )
    ray: str | None = option(
        "decide on a Ray cluster, with the extra [ray]: auto is one that runs on this machine, "
        "else one that is started here on its cores; or its address, such as host:6379; images "
        "and `maps` have to be visible to its machines under the same paths",
        None,
    )
    ray_workers: int | None = option(
        "processes of the cluster that decide (default: one a GPU, or where there is none one a "
        "core)",
        None,
        least=1,
        most=MAX_WORKERS,
    )
    compile: Literal["off", "auto", "on"] = option(
        "torch.compile the network, auto where the work repays it: moves scores by the rounding of "
        "the detector's precision",
        "off",
    )
    device: str = option(DEVICE, "auto")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_by is not None:
            refuse_no_pattern(self.group_by)
        if self.ray is None and self.ray_workers is not None:
            raise UserError("`ray_workers`: found it without `ray`, expected both")
        if self.ray is not None and self.compile == "auto":
            raise UserError(
                "`compile`: found auto beside `ray`, expected on or off, as no worker knows how "
                "much is to come"
            )
        if self.ray not in (None, "auto") and not re.fullmatch(r"[^/]+:\d+", self.ray or ""):
            raise UserError(
                f"`ray`: found {self.ray!r}, expected auto, or host:port as on a machine of the "
                "cluster; Ray Data does not work by ray://"
            )
        if self.ray is not None and self.device not in ("auto", "cpu", "cuda"):
            raise UserError(
                f"`device`: found {self.device}, expected auto, cpu or cuda with `ray`, which says "
                "which GPU is whose"
            )
