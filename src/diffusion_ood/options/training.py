"""Options of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.errors import UserError
from diffusion_ood.options.checks import MAX_FLOAT, any_seed, at_least, at_most, positive
from diffusion_ood.options.fields import option


@dataclass(frozen=True)
class FitOptions:
    """Training of any network."""

    training_ids: Path = option("split CSV of the training images")
    validation_ids: Path = option("split CSV of the validation images")
    n_epochs: int = option("number of passes over the training images", default=300)
    batch_size: int = option("images a step, over all processes together", default=512)
    lr: float = option("learning rate of Adam", default=2.5e-5)
    eval_freq: int = option("epochs between validations", default=10)
    checkpoint_every: int = option("epochs between the checkpoints that are kept", default=100)
    save_every_minutes: float = option(
        "minutes between saves within an epoch; 0 saves at its end alone", default=10.0
    )
    quick_test: bool = option("one training and one validation batch an epoch", default=False)
    seed: int = option("seed of the weights, the order of the images and the noise", default=2)

    def __post_init__(self) -> None:
        any_seed(self.seed)
        for name in ("n_epochs", "batch_size", "lr", "eval_freq", "checkpoint_every"):
            positive(name, getattr(self, name))
        at_most("lr", self.lr, MAX_FLOAT)
        at_least("save_every_minutes", self.save_every_minutes, 0)


@dataclass(frozen=True)
class TrainOptions(FitOptions):
    """Training."""

    lr_schedule: Literal["constant", "cosine"] = option(
        "cosine falls to zero over `n_epochs`", default="constant"
    )
    warmup_steps: int = option("steps in which the learning rate rises from 0", default=0)
    grad_clip: float = option(
        "largest norm of a step's gradient; 0 is off. The loss is a mean over pixels: DiffOOD's "
        "clip of 1 on a sum over 3 × 32 × 32 is one of 1/3072 here",
        default=0.0,
    )
    ema_decay: float = option(
        "decay of the averaged weights that are validated and scored with; 0 is off", default=0.0
    )
    res_dropout: float = option("dropout in the residual blocks", default=0.0)
    max_train_t: int | None = option(
        "train on the noise levels t < max_train_t alone", default=None
    )
    antithetic_t: bool = option(
        "draw noise levels in pairs t, T-1-t, so that every batch has low and high ones",
        default=False,
    )
    label_dropout: float = option(
        "share of images whose class is hidden, which guidance needs; with `num_classes`",
        default=0.1,
    )
    flip: bool = option(
        "mirror half of the training images left to right; not for images whose mirrored twins "
        "are to be found out of distribution",
        default=False,
    )
    augmentation: bool = option(
        "small random rotations, shifts and zooms (never flips)", default=False
    )
    ddpm_checkpoint_epoch: int | None = option(
        "go on from checkpoint_<epoch>.pth rather than from the last", default=None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_train_t is not None:
            positive("max_train_t", self.max_train_t)
        at_least("warmup_steps", self.warmup_steps, 0)
        at_least("grad_clip", self.grad_clip, 0)
        for name in ("ema_decay", "res_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(f"`{name}`: found {value}, expected 0 <= {name} < 1")
        if not 0 <= self.label_dropout <= 1:
            raise UserError(
                f"`label_dropout`: found {self.label_dropout}, expected a share from 0 to 1"
            )


@dataclass(frozen=True)
class ClassifierTrainOptions(FitOptions):
    """Training of the classifier, by default OpenOOD's recipe."""

    test_ids: Path | None = option(
        "split CSV of test images; the accuracy on them is kept in the checkpoint", default=None
    )
    n_epochs: int = option("number of passes over the training images", default=100)
    batch_size: int = option("images a step, over all processes together", default=128)
    lr: float = option("first learning rate of SGD; it falls along a cosine to 1e-6", default=0.1)
    weight_decay: float = option("weight decay of SGD", default=5e-4)
    flip: bool = option(
        "mirror half of the training images; not for digits or letters", default=True
    )
    crop_padding: int | None = option(
        "pad training images with black and crop them back at random, by so many pixels; "
        "default: an eighth of the shortest side",
        default=None,
    )
    eval_freq: int = option("epochs between validations", default=5)
    seed: int = option("seed of the weights, the order of the images and their crops", default=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("weight_decay", self.weight_decay, 0)
        at_most("weight_decay", self.weight_decay, MAX_FLOAT)
        if self.crop_padding is not None:
            at_least("crop_padding", self.crop_padding, 0)
