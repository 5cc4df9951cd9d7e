"""Options of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.options.fields import MAX_FLOAT, SEED, OptionGroup, option


@dataclass(frozen=True)
class FitOptions(OptionGroup):
    """Training of any network."""

    training_ids: Path = option("split CSV of the training images")
    validation_ids: Path = option("split CSV of the validation images")
    n_epochs: int = option("number of passes over the training images", 300, least=1)
    batch_size: int = option("images a step, over all processes together", 512, least=1)
    lr: float = option("learning rate of Adam", 2.5e-5, above=0, most=MAX_FLOAT)
    eval_freq: int = option("epochs between validations", 10, least=1)
    checkpoint_every: int = option("epochs between the checkpoints that are kept", 100, least=1)
    save_every_minutes: float = option(
        "minutes between saves within an epoch; 0 saves at its end alone", 10.0, least=0
    )
    quick_test: bool = option("one training and one validation batch an epoch", False)
    seed: int = option("seed of the weights and of all that is drawn in training", 2, **SEED)


@dataclass(frozen=True)
class TrainOptions(FitOptions):
    """Training."""

    lr_schedule: Literal["constant", "cosine"] = option(
        "cosine falls to zero over `n_epochs`", "constant"
    )
    warmup_steps: int = option("steps in which the learning rate rises from 0", 0, least=0)
    grad_clip: float = option(
        "largest norm of a step's gradient; 0 is off. The loss is a mean over pixels: DiffOOD's "
        "clip of 1 on a sum over 3 × 32 × 32 is one of 1/3072 here",
        0.0,
        least=0,
    )
    ema_decay: float = option(
        "decay of the averaged weights that are evaluated; 0 is off", 0.0, least=0, below=1
    )
    res_dropout: float = option("dropout in the residual blocks", 0.0, least=0, below=1)
    max_train_t: int | None = option("train on noise levels t < max_train_t alone", None, least=1)
    antithetic_t: bool = option(
        "draw noise levels in pairs t, T-1-t, so that every batch has low and high ones", False
    )
    label_dropout: float = option(
        "share of images whose class is hidden, which guidance needs; with `num_classes`",
        0.1,
        least=0,
        most=1,
    )
    flip: bool = option(
        "mirror half of the training images left to right; not for images whose mirrored twins "
        "are to be found out of distribution",
        False,
    )
    augmentation: bool = option("small random rotations, shifts and zooms (never flips)", False)
    vqvae_checkpoint: Path | None = option(
        "checkpoint of train_vqvae.py: diffuse its latents in place of the images (default: none)",
        None,
        exists=True,
    )
    ddpm_checkpoint_epoch: int | None = option(
        "go on from checkpoint_<epoch>.pth rather than from the last", None
    )


@dataclass(frozen=True)
class ClassifierTrainOptions(FitOptions):
    """Training of the classifier, by default OpenOOD's recipe."""

    test_ids: Path | None = option(
        "split CSV of test images; the accuracy on them is kept in the checkpoint", None
    )
    n_epochs: int = option("number of passes over the training images", 100, least=1)
    batch_size: int = option("images a step, over all processes together", 128, least=1)
    lr: float = option(
        "first learning rate of SGD; it falls along a cosine to 1e-6", 0.1, above=0, most=MAX_FLOAT
    )
    weight_decay: float = option("weight decay of SGD", 5e-4, least=0, most=MAX_FLOAT)
    flip: bool = option("mirror half of the training images; not for digits or letters", True)
    crop_padding: int | None = option(
        "pad training images with black and crop them back at random, by so many pixels; "
        "default: an eighth of the shortest side",
        None,
        least=0,
    )
    eval_freq: int = option("epochs between validations", 5, least=1)
