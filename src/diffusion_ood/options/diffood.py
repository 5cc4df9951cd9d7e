"""The options of DiffOOD's own command lines, under the names that its authors gave them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusion_ood.options.fields import MAX_REPEATS, OptionGroup, option

TEMP = Path("temp")
SCORED = TEMP / "sample_ood"
Runner = Literal[
    "base_train", "train", "training", "base_fid", "fid", "ood_itp", "detection", "interpolation"
]


def scored_run(id_name: str, repeat_size: int) -> str:
    """The run folder below `SCORED` in which `main.py` and `detect/ood_detect.py` meet."""
    return f"{id_name}_r{repeat_size}"


@dataclass(frozen=True)
class MainOptions(OptionGroup):
    """The second system: what to do, by which configuration."""

    runner: Runner = option(
        "base_train (train, training), base_fid (fid), ood_itp (detection) or interpolation"
    )
    config: Path = option("YAML file, or the name of one in config/")
    method: Literal["DDIM", "PNDM2", "PNDM4"] = option("numerical method", "PNDM4")
    sample_speed: int = option("steps of the whole time grid", 50, least=1)
    device: str = option("auto, cpu, cuda, …", "auto")
    train_path: Path = option("run folder of base_train", TEMP / "train")
    image_path: Path = option("folder of pictures of base_fid and interpolation", TEMP / "sample")
    model_path: Path | None = option(
        "checkpoint of the diffusion model; default: the best in `train_path`", None, exists=True
    )
    disc_path: Path | None = option(
        "checkpoint of the classifier; default: temp/model/res18_<model_name>.pth", None
    )
    model_name: str = option("name of the in-distribution data set", "cifar10", folder_name=True)
    ood_names: tuple[str, ...] = option(
        "names of the sets that ood_itp scores, as far as they are there",
        ("cifar10", "cifar100", "tin", "svhn", "texture", "places365"),
    )
    repeat_size: int = option("repeats of each image", 1, least=1, most=MAX_REPEATS)
    num_images: int | None = option(
        "images of each set, by default 1000; for base_fid samples, by default the "
        "configuration's Sample.total_num; for interpolation images to pair, by default 32",
        None,
        least=1,
    )
    data_root: Path = option("folder that get_datasets.py filled", TEMP / "dataset")


@dataclass(frozen=True)
class OodDetectOptions(OptionGroup):
    """The second system's report."""

    repeat_size: int = option("repeats that ood_itp was asked for (-r)", 1, least=1)
    id_name: str = option("name of the in-distribution data set (-n)", "cifar10", folder_name=True)
    space: Literal["logit", "feature"] = option("classifier's outputs that decide (-s)", "logit")
