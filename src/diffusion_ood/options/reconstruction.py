"""Options of reconstruction."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import MAX_BATCH, MAX_REPEATS, SEED, OptionGroup, option
from diffusion_ood.registries import METHODS, SAMPLERS, SCORES

NUM_LEVELS = 10

JOINED = "joined"
"""Stands for the methods whose evidence ood_detection.py joins."""

MIN_REFERENCE = 20
"""Images that a method needs to learn from."""

JOINED_METHODS = ("denoising", "score_geometry", "features", "autoencoder")

SCORES_OF_IMAGES, SCORES_OF_LATENTS = ("mse", "perceptual"), ("mse_latent",)
"""What is measured of reconstructions by default, see `methods.chosen.for_model`."""

READ = {
    "reconstruction": (
        *("budget", "budget_steps", "num_inference_steps", "inference_skip_factor", "levels"),
        *("repeats", "sampler", "scores", "classifier_checkpoint", "labels", "guidance"),
        *("clip_denoised", "lpips_weights", "seed", "save_images", "report_images"),
    ),
    "diffood": (
        *("repeats", "sampler", "classifier_checkpoint", "seed", "save_images", "report_images"),
    ),
    "denoising": ("num_levels", "repeats", "scores", "lpips_weights", "seed"),
    "score_geometry": ("num_levels", "repeats", "seed"),
    "features": ("reference_ids", "first_n_reference", "seed"),
    "path": (),
    "likelihood": ("num_levels", "repeats", "seed"),
    "equivariance": ("seed",),
    "eigenscore": ("seed",),
    "projection_regret": ("scores", "lpips_weights", "seed"),
    "inpainting": ("scores", "lpips_weights", "seed"),
    "controls": ("seed",),
    "autoencoder": ("scores", "lpips_weights"),
    JOINED: ("budget", "reference_ids", "first_n_reference", "scores", "lpips_weights", "seed"),
}
"""The options that each of our methods reads; whatever is in none of these acts on all."""


def refuse_idle(methods: tuple[str, ...], given: frozenset[str]) -> None:
    """Refuse options that none of our methods would read; what others do with one is not known.

    Raises:
        UserError: an option that would do nothing.
    """
    if not READ.keys() >= set(methods):
        return
    read = {name for method in methods for name in READ[method]}
    for name in sorted(given & set().union(*READ.values()) - read):
        readers = [method for method, names in READ.items() if name in names]
        raise UserError(
            f"`{name}`: has no effect on the `methods` {', '.join(methods)}; leave it "
            f"out, or add {' or '.join(readers)}"
        )


@dataclass(frozen=True)
class ReconstructOptions(OptionGroup):
    """Reconstruction: which images, from which noise levels, by which steps."""

    validation_ids: Path | None = option("split CSV of the validation images", None)
    in_ids: Path | None = option("split CSV of the in-distribution test images", None)
    out_ids: tuple[Path, ...] = option(
        "split CSVs of the out-of-distribution sets; X_vflip.csv, X_hflip.csv are X.csv flipped", ()
    )
    shifted_ids: tuple[Path, ...] = option(
        "split CSVs of sets that differ from the in-distribution images in what should not matter, "
        "such as the scanner (covariate shift): their false alarms are reported, but they count "
        "neither as in nor as out",
        (),
    )
    run_val: bool = option("score the validation images", True)
    run_in: bool | None = option(
        "score the in-distribution test images; default: where `in_ids` is given", None
    )
    run_out: bool | None = option(
        "score the out-of-distribution sets; default: where `out_ids` are given", None
    )
    run_patched: bool = option(
        "score the validation images with a patch of another of them too, for "
        "ood_detection.py `level_weights`=patched",
        False,
    )
    first_n_val: int | None = option("score the first N validation images alone", None, least=1)
    first_n: int | None = option("score the first N images of each test set alone", None, least=1)
    methods: tuple[str, ...] = option(
        "what to measure, a table each; reconstruction is Graham et al. (2023), by the options "
        "below; diffood is Liu et al. (2022) with its own levels and steps; the others share their "
        "network calls; joined is several of them, as `budget` allows",
        ("reconstruction",),
        choices=ChainMap({JOINED: ""}, METHODS),
    )
    reference_ids: Path | None = option(
        "split CSV of the images that methods such as features learn from, best the training split",
        None,
    )
    first_n_reference: int = option(
        "learn from the first N of them alone", 5_000, least=MIN_REFERENCE
    )
    num_inference_steps: int = option("steps of the whole time grid", 100, least=1)
    inference_skip_factor: int = option("keep every N-th start point of the grid", 1, least=1)
    budget: int | None = option(
        "network calls an image, all repeats together, in place of the grid: x_0 is predicted "
        "straight from as many noise levels",
        None,
        least=1,
    )
    budget_steps: int = option(
        "spend `budget` on fewer noise levels, with so many steps from each, of equal length in "
        "log-SNR",
        1,
        least=1,
    )
    sampler: str | None = option(
        "how a trajectory steps down; default: plms, with `budget` dpmpp_2m", None, choices=SAMPLERS
    )
    levels: tuple[int, ...] = option(
        "start from these noise levels alone, with the same noise at all of them, and step to the "
        "image without noise: 0,120,240,360; 0 is the image itself",
        (),
    )
    repeats: int | None = option(
        "draws of noise at each start point (default: 1; 4 of diffood)",
        None,
        least=1,
        most=MAX_REPEATS,
    )
    num_levels: int = option(
        "noise levels of the methods other than reconstruction and diffood, even in log-SNR",
        NUM_LEVELS,
        least=1,
    )
    scores: tuple[str, ...] = option(
        "how to measure: mse, perceptual; of a latent model also mse_latent, which decodes "
        "nothing, and mse_autoencoded, against the image that the autoencoder makes; with "
        "`classifier_checkpoint` logit_l1, feature_l1 (how far the classifier's outputs move), "
        "msp, maxlogit, energy (of the image alone); default: mse,perceptual, and mse_latent of "
        "a latent model without reconstruction among the `methods`",
        (),
        choices=SCORES,
    )
    classifier_checkpoint: Path | None = option(
        "checkpoint of train_classifier.py, for scores and for `labels` pred", None, exists=True
    )
    labels: Literal["none", "pred", "true"] = option(
        "class that a class-conditional model is told: none, the one that the classifier predicts "
        "for the image, or the one in the split",
        "none",
    )
    guidance: float = option(
        "strength β of guidance, (1+β)·conditional − β·unconditional; 0 is none", 0.0, least=0
    )
    clip_denoised: bool = option(
        "clip each prediction of the image, on the way down, to the images' range", False
    )
    batch_size: int = option(
        "images that a process reads and saves at a time", 64, least=1, most=MAX_BATCH
    )
    drop_last: bool = option("leave out the images of an incomplete last batch", False)
    eval_checkpoint: str = option("best, last, or the path of a checkpoint", "best")
    ddpm_checkpoint_epoch: int | None = option("score with checkpoint_<epoch>.pth", None)
    save_images: int = option(
        "keep a sheet of each set's first N reconstructed images; 0 for none", 0, least=0
    )
    report_images: int = option(
        "reconstruct again, for the report, at most N images of each set with the highest scores, "
        "N with the lowest and N mistakes, from at most five noise levels; 0 for none",
        4,
        least=0,
    )
    vqvae_checkpoint: Path | None = option(
        "checkpoint of train_vqvae.py; a latent model's own holds it already, so this is compared "
        "alone",
        None,
        exists=True,
    )
    lpips_weights: Path | None = option("file of AlexNet's weights for LPIPS", None, exists=True)
    seed: int = option("seed of the noise", 2, **SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods:
            raise UserError("`methods`: found none, expected at least one")
        if JOINED in self.methods and (twice := set(JOINED_METHODS) & set(self.methods)):
            raise UserError(f"`methods`: found {min(twice)} beside joined, which has it already")
        if self.guidance and self.labels == "none":
            raise UserError("`guidance`: has no effect with `labels` none, expected pred or true")
        if self.labels == "pred" and self.classifier_checkpoint is None:
            raise UserError("`labels` pred: found no `classifier_checkpoint`, expected one")
