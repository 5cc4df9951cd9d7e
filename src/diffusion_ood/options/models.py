"""Options of the run, the images, the model, its training and its use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.cli import option
from diffusion_ood.errors import UserError
from diffusion_ood.options.checks import at_least, folder_name, positive

BetaSchedule = Literal[
    "linear", "scaled_linear", "cosine", "linear_beta", "scaled_linear_beta", "sigmoid_beta"
]
_SCHEDULES = {"linear": "linear_beta", "scaled_linear": "scaled_linear_beta"}
PredictionType = Literal["epsilon", "sample", "v_prediction"]
ModelType = Literal["tiny", "small", "big"]


@dataclass(frozen=True)
class RunOptions:
    """The run: where everything of one model lies."""

    output_dir: Path = option("folder of all runs; this one is output_dir/model_name")
    model_name: str = option("name of this run's folder")

    def __post_init__(self) -> None:
        folder_name("model_name", self.model_name)

    @property
    def run_dir(self) -> Path:
        """The run directory, `output_dir/model_name`."""
        return self.output_dir.expanduser() / self.model_name

    @property
    def ood_dir(self) -> Path:
        """The run directory's folder of score tables and results."""
        return self.run_dir / "ood"


@dataclass(frozen=True)
class ImageOptions:
    """The images: how a file becomes the array that the model sees."""

    is_grayscale: bool = option("one channel instead of three", default=False)
    spatial_dimension: int = option("2 for images, 3 for volumes", default=2)
    image_size: int | None = option(
        "resize every side to this many pixels, after --image_roi", default=None
    )
    image_roi: tuple[int, ...] | None = option(
        "crop the centre to these sides, -1 keeps a side: 160,-1", default=None
    )
    intensity_range: tuple[float, ...] | None = option(
        "LOW,HIGH of the stored values that become 0 and 1; default: the integer type's whole "
        "range, and 0,1 for floating-point files",
        default=None,
    )

    def __post_init__(self) -> None:
        if self.spatial_dimension not in (2, 3):
            raise UserError(f"--spatial_dimension: found {self.spatial_dimension}, expected 2 or 3")
        if self.image_size is not None:
            positive("image_size", self.image_size)
        roi = self.image_roi
        if roi is not None and (
            len(roi) != self.spatial_dimension or any(s == 0 or s < -1 for s in roi)
        ):
            raise UserError(
                f"--image_roi: found {roi}, expected {self.spatial_dimension} sides, "
                "each at least 1 or -1"
            )
        limits = self.intensity_range
        if limits is not None and (len(limits) != 2 or not limits[0] < limits[1]):
            raise UserError(f"--intensity_range: found {limits}, expected LOW,HIGH with LOW < HIGH")

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return 1 if self.is_grayscale else 3


@dataclass(frozen=True)
class LoadingOptions:
    """Loading: how images get from the disk."""

    num_workers: int = option("processes that decode images; 0 decodes in the main one", default=2)
    cache_data: bool = option(
        "decode every image once into a packed file beside the split, and read that from then on",
        default=True,
    )

    def __post_init__(self) -> None:
        at_least("num_workers", self.num_workers, 0)


@dataclass(frozen=True)
class DiffusionOptions:
    """The diffusion model: what is stored in the checkpoint and never changes after training."""

    model_type: ModelType = option(
        "size of the U-Net; tiny has about a million parameters", default="small"
    )
    prediction_type: PredictionType = option(
        "what the network predicts: ε, x_0 or v", default="epsilon"
    )
    beta_schedule: BetaSchedule = option(
        "noise schedule, by its short or its MONAI name", default="linear"
    )
    beta_start: float = option("first β; the cosine schedule has none", default=1e-4)
    beta_end: float = option("last β; the cosine schedule has none", default=2e-2)
    b_scale: float = option("factor on the images before noise is added (Chen 2023)", default=1.0)
    snr_shift: float = option(
        "factor on the signal-to-noise ratio of every level (Hoogeboom et al. 2023)", default=1.0
    )
    simplex_noise: bool = option("not available; only 0 is accepted", default=False)

    def __post_init__(self) -> None:
        # One name a schedule, so that two spellings of it do not contradict each other.
        name = _SCHEDULES.get(self.beta_schedule, self.beta_schedule)
        object.__setattr__(self, "beta_schedule", name)
        positive("b_scale", self.b_scale)
        positive("snr_shift", self.snr_shift)
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise UserError(
                f"--beta_start, --beta_end: found {self.beta_start}, {self.beta_end}, "
                "expected 0 < beta_start <= beta_end < 1"
            )
        if self.simplex_noise:
            raise UserError(
                "--simplex_noise: not available, since every sampler of this package assumes "
                "Gaussian noise; leave it out or give 0"
            )


@dataclass(frozen=True)
class ComputeOptions:
    """Computing: where and how precisely; the results agree within rounding."""

    device: str = option("auto, cpu, cuda, cuda:1, mps, …", default="auto")
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "of the network's arithmetic", default="fp32"
    )
    compile: Literal["auto", "on", "off"] = option(
        "torch.compile the network; auto estimates whether the work repays it", default="auto"
    )


@dataclass(frozen=True)
class TrainOptions:
    """Training."""

    training_ids: Path = option("split CSV of the training images")
    validation_ids: Path = option("split CSV of the validation images")
    n_epochs: int = option("number of passes over the training images", default=300)
    batch_size: int = option("images a step, over all processes together", default=512)
    lr: float = option("learning rate of Adam", default=2.5e-5)
    lr_schedule: Literal["constant", "cosine"] = option(
        "cosine falls to zero over --n_epochs", default="constant"
    )
    ema_decay: float = option(
        "decay of the averaged weights that are validated and scored with; 0 is off", default=0.0
    )
    max_train_t: int | None = option(
        "train on the noise levels t < max_train_t alone", default=None
    )
    augmentation: bool = option(
        "small random rotations, shifts and zooms (never flips)", default=False
    )
    eval_freq: int = option("epochs between validations", default=10)
    checkpoint_every: int = option("epochs between the checkpoints that are kept", default=100)
    ddpm_checkpoint_epoch: int | None = option(
        "go on from checkpoint_<epoch>.pth rather than from the last", default=None
    )
    quick_test: bool = option("one training and one validation batch an epoch", default=False)
    seed: int = option("seed of the weights, the order of the images and the noise", default=2)

    def __post_init__(self) -> None:
        for name in ("n_epochs", "batch_size", "lr", "eval_freq", "checkpoint_every"):
            positive(name, getattr(self, name))
        if self.max_train_t is not None:
            positive("max_train_t", self.max_train_t)
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"--ema_decay: found {self.ema_decay}, expected 0 <= ema_decay < 1")


@dataclass(frozen=True)
class ReconstructOptions:
    """Reconstruction: which images, from which noise levels, by which steps."""

    validation_ids: Path | None = option("split CSV of the validation images", default=None)
    in_ids: Path | None = option("split CSV of the in-distribution test images", default=None)
    out_ids: tuple[Path, ...] = option(
        "split CSVs of the out-of-distribution sets; X_vflip.csv, X_hflip.csv are X.csv flipped",
        default=(),
    )
    run_val: bool = option("score the validation images", default=True)
    run_in: bool = option("score the in-distribution test images", default=True)
    run_out: bool = option("score the out-of-distribution sets", default=True)
    first_n_val: int | None = option("score the first N validation images alone", default=None)
    first_n: int | None = option("score the first N images of each test set alone", default=None)
    num_inference_steps: int = option("steps of the whole time grid", default=100)
    inference_skip_factor: int = option("keep every N-th start point of the grid", default=1)
    budget: int | None = option(
        "network calls an image, spent on as many noise levels: x_0 is predicted straight from "
        "each, in place of trajectories down the grid",
        default=None,
    )
    sampler: Literal["plms", "ddim"] = option(
        "how a trajectory steps down the grid", default="plms"
    )
    batch_size: int = option("images read and reported on at a time", default=64)
    max_batch: int = option("trajectories in one network call; bounds the memory", default=256)
    drop_last: bool = option("leave out the images of an incomplete last batch", default=False)
    eval_checkpoint: str = option("best, last, or the path of a checkpoint", default="best")
    ddpm_checkpoint_epoch: int | None = option("score with checkpoint_<epoch>.pth", default=None)
    save_images: int = option(
        "keep the first N images of each set as a sheet of reconstructions", default=0
    )
    lpips_weights: Path | None = option(
        "file of AlexNet's convolution weights for LPIPS", default=None
    )
    seed: int = option("seed of the noise", default=2)

    def __post_init__(self) -> None:
        for name in ("num_inference_steps", "inference_skip_factor", "batch_size", "max_batch"):
            positive(name, getattr(self, name))
        for name in ("first_n", "first_n_val", "budget"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        at_least("save_images", self.save_images, 0)
