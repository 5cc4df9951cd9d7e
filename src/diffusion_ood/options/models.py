"""Options of the run, the images, the networks, where they compute and where they log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any, Literal

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import MAX_BATCH, MAX_WORKERS, OptionGroup, option, refuse_outside
from diffusion_ood.paths import expanded
from diffusion_ood.registries import CLASSIFIERS, SIZES

BetaSchedule = Literal[
    "linear", "scaled_linear", "cosine", "linear_beta", "scaled_linear_beta", "sigmoid_beta"
]
_SCHEDULES = {"linear": "linear_beta", "scaled_linear": "scaled_linear_beta"}
PredictionType = Literal["epsilon", "sample", "v_prediction"]
# Of this process; torch warns of more decoding processes than these.
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_SIDES = {2: 10_000, 3: 1_000}  # of images, of volumes
MAX_PAD = 1_000


@dataclass(frozen=True)
class RunOptions(OptionGroup):
    """The run: where everything of one model lies."""

    output_dir: Path = option("folder of all runs; this one is output_dir/model_name")
    model_name: str = option("name of this run's folder", folder_name=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            str(self.run_dir).encode()
        except UnicodeEncodeError:  # TensorBoard writes to none other
            raise UserError(
                f"`output_dir`, `model_name`: found {str(self.run_dir)!r}, expected names in UTF-8"
            ) from None

    @property
    def run_dir(self) -> Path:
        """The run directory, `output_dir/model_name`."""
        return expanded(self.output_dir) / self.model_name

    @property
    def ood_dir(self) -> Path:
        """The run directory's folder of score tables and results."""
        return self.run_dir / "ood"


@dataclass(frozen=True)
class ImageOptions(OptionGroup):
    """The images: how a file becomes the array that the model sees."""

    is_grayscale: bool = option("one channel instead of three", False)
    spatial_dimension: int = option("2 for images, 3 for volumes", 2, least=2, most=3)
    image_size: int | None = option("resize every side to so many pixels, after `image_roi`", None)
    image_roi: tuple[int, ...] | None = option(
        "crop the centre to these sides, -1 keeps a side: 160,-1", None
    )
    intensity_range: tuple[float, ...] | None = option(
        "LOW,HIGH of the stored values that become 0 and 1; default: the integer type's whole "
        "range, and 0,1 for floating-point files; of NIfTI and DICOM after slope and intercept, "
        "as -15,100 of a CT",
        None,
    )
    intensity_percentiles: tuple[float, ...] | None = option(
        "LOW,HIGH: these percentiles of an image's own values above 0, of a slice's volume, become "
        "0 and 1, for MR without units: 0.5,99.5; images that differ by their brightness alone are "
        "no longer told apart",
        None,
    )
    spacing: tuple[float, ...] | None = option(
        "resample volumes to voxels of x,y,z millimetres, before `image_roi`: 1,1,2", None
    )
    orientation: Literal["RAS", "stored"] = option(
        "how volumes are turned: their axes to the patient's right, front and head, or not at all",
        "RAS",
        absent="stored",
    )
    volume_channel: int | None = option(
        "which volume of a file with several over the same space, from 0", None, least=0
    )
    slices: Literal["axial", "coronal", "sagittal"] | None = option(
        "take volumes for the set of their slices, each an image; with `spatial_dimension` 2", None
    )
    every: int = option("of these slices every N-th", 1, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices is not None and self.spatial_dimension != 2:
            raise UserError(
                f"`slices`: found `spatial_dimension` {self.spatial_dimension}, expected 2, "
                "as slices are images"
            )
        if self.slices is None and self.every != 1:
            raise UserError("`every`: has no effect without `slices`; give both")
        if self.image_size is not None:
            most = MAX_SIDES[self.spatial_dimension]
            refuse_outside("image_size", self.image_size, least=1, most=most)
        roi, limits, sides = self.image_roi, self.intensity_range, self.spatial_dimension
        if roi is not None and (len(roi) != sides or any(s == 0 or s < -1 for s in roi)):
            raise UserError(
                f"`image_roi`: found {roi}, expected {sides} sides, each at least 1 or -1"
            )
        if limits is not None and (len(limits) != 2 or not -inf < limits[0] < limits[1] < inf):
            raise UserError(f"`intensity_range`: found {limits}, expected LOW,HIGH with LOW < HIGH")
        ends, spacing = self.intensity_percentiles, self.spacing
        if ends is not None and (len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 100):
            raise UserError(
                f"`intensity_percentiles`: found {ends}, expected LOW,HIGH, 0 <= LOW < HIGH <= 100"
            )
        if ends is not None and limits is not None:
            raise UserError("`intensity_percentiles`, `intensity_range`: found both, expected one")
        if spacing is not None and (len(spacing) != 3 or not all(0 < s < inf for s in spacing)):
            raise UserError(f"`spacing`: found {spacing}, expected x,y,z in millimetres above 0")
        if self.spatial_dimension == 2:  # slices are cut from volumes that are turned
            object.__setattr__(self, "orientation", "RAS")

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return 1 if self.is_grayscale else 3


@dataclass(frozen=True)
class LoadingOptions(OptionGroup):
    """Loading: how images get from the disk."""

    num_workers: int = option(
        "decoding processes; 0 decodes in the main one", min(2, CPUS), least=0, most=MAX_WORKERS
    )
    cache_data: bool = option(
        "decode every image once into a packed file beside the split, and read that from then on",
        True,
    )
    on_error: Literal["stop", "skip"] = option(
        "at an image that cannot be read: stop, or leave it out and list it in the run's "
        "skipped.csv",
        "stop",
    )


@dataclass(frozen=True)
class DiffusionOptions(OptionGroup):
    """The diffusion model: what is stored in the checkpoint and never changes after training."""

    model_type: str = option(
        "size of the U-Net; tiny has about a million parameters, ddim32 is the one of DDIM for "
        "images of 32 pixels",
        "small",
        choices=SIZES,
    )
    prediction_type: PredictionType = option("what the network predicts: ε, x_0 or v", "epsilon")
    beta_schedule: BetaSchedule = option("noise schedule, by its short or its MONAI name", "linear")
    beta_start: float = option("first β; the cosine schedule has none", 1e-4)
    beta_end: float = option("last β; the cosine schedule has none", 2e-2)
    num_classes: int = option(
        "classes of a class-conditional model, the split's second column; 0 for none", 0, least=0
    )
    data_range: Literal["01", "pm1"] = option(
        "range that the model sees images in, before `b_scale`: 0 to 1, or -1 to 1", "01"
    )
    b_scale: float = option("factor on the images before noise is added (Chen 2023)", 1.0, above=0)
    snr_shift: float = option(
        "factor on the signal-to-noise ratio of every level (Hoogeboom et al. 2023)", 1.0, above=0
    )
    latent: Literal["quantised", "encoded"] = option(
        "with `vqvae_checkpoint`: diffuse codes, or what the encoder says before the nearest codes "
        "replace it",
        "quantised",
    )
    latent_pad: tuple[int, ...] = option(
        "with `vqvae_checkpoint`: zeros before and after each side of the latents, the last side "
        "first as of torch.nn.functional.pad: 0,1,0,1,0,1; they are cut off before decoding",
        (),
    )
    simplex_noise: bool = option("not available; only 0 is accepted", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        # One name a schedule, so that two spellings of it do not contradict each other.
        name = _SCHEDULES.get(self.beta_schedule, self.beta_schedule)
        object.__setattr__(self, "beta_schedule", name)
        if self.num_classes == 1:
            raise UserError("`num_classes`: found 1, expected at least 2, or 0 for none")
        if len(self.latent_pad) % 2 or not all(0 <= n <= MAX_PAD for n in self.latent_pad):
            raise UserError(
                f"`latent_pad`: found {self.latent_pad}, expected two numbers a side, of 0 to "
                f"{MAX_PAD}"
            )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise UserError(
                f"`beta_start`, `beta_end`: found {self.beta_start}, {self.beta_end}, "
                "expected 0 < beta_start <= beta_end < 1"
            )
        if self.simplex_noise:
            raise UserError(
                "`simplex_noise`: not available, since every sampler of this package assumes "
                "Gaussian noise; leave it out or give 0"
            )


@dataclass(frozen=True)
class ClassifierOptions(OptionGroup):
    """The classifier: what is stored in its checkpoint and never changes after training."""

    classifier_type: str = option(
        "ResNet-18 for small images, or the same with an eighth of its channels, for a CPU",
        "resnet18",
        choices=CLASSIFIERS,
    )
    num_classes: int = option("number of classes in the split's second column", 10, least=2)


@dataclass(frozen=True)
class ComputeOptions(OptionGroup):
    """Computing: where and how precisely; the results agree within rounding."""

    device: str = option("auto, cpu, cuda, cuda:1, mps, …", "auto")
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "of the network's arithmetic; where bf16 would show in scores it stays fp32", "fp32"
    )
    compile: Literal["auto", "on", "off"] = option(
        "torch.compile the network, on CUDA as a CUDA graph; auto estimates what the work repays",
        "auto",
    )


@dataclass(frozen=True)
class EvaluationOptions(ComputeOptions):
    """Computing: where, how precisely and how much at once; the results agree within rounding."""

    max_batch: int | None = option(
        "rows in one network call, such as samples or trajectories; bounds the memory (default: "
        "on a CPU as many as its caches hold, on CUDA as a part of its memory holds)",
        None,
        least=1,
        most=MAX_BATCH,
    )


@dataclass(frozen=True)
class TrackOptions(OptionGroup):
    """Logs: where losses, pictures, distributions and metrics are logged to compare runs."""

    tracker: Literal["tensorboard", "mlflow"] = option(
        "TensorBoard's files in the run directory, or MLflow's local store, output_dir/mlflow.db",
        "tensorboard",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracker == "mlflow" and not all(map(find_spec, ("mlflow", "sqlalchemy"))):
            raise UserError(
                "`tracker` mlflow: MLflow is not installed, expected "
                "pip install mlflow-skinny sqlalchemy alembic"
            )


def groups_of_a_run(
    work: type[OptionGroup], model: type[OptionGroup], compute: type[OptionGroup] = ComputeOptions
) -> tuple[type[Any], ...]:
    """The groups of a command that trains or scores a model, in the order of `TrainingSettings`."""
    return RunOptions, work, ImageOptions, model, LoadingOptions, compute, TrackOptions
