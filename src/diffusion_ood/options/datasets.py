"""Options of `get_datasets.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import MAX_WORKERS, OptionGroup, option
from diffusion_ood.registries import FAULTS, SOURCES

TAKEN = ("val", "in", "val_patched")


@dataclass(frozen=True)
class DatasetOptions(OptionGroup):
    """Data sets: which to prepare, from where, and where to."""

    data_root: Path = option("folder of all data sets; the splits go to data_root/data_splits")
    datasets: tuple[str, ...] = option(
        "which to prepare; MNIST5k, PhotoPatches, MNI152 and Phantoms need no download",
        ("MNIST", "FashionMNIST", "CIFAR10", "SVHN", "CelebA"),
        choices=SOURCES,
    )
    download_celeba: bool = option(
        "download CelebA; without, its files are expected in data_root/CelebA/raw", True
    )
    source_dir: Path | None = option(
        "folder of raw files to take instead of downloading them", None, exists=True
    )
    image_folder: Path | None = option(
        "make splits of this folder of images instead; they stay where they are", None, exists=True
    )
    image_lists: tuple[Path, ...] = option(
        "make splits of these text files with a path and a label a line instead, whose paths start "
        "at `source_dir`; the images stay where they are",
        (),
    )
    name: str | None = option("name of the data set of `image_folder`", None, folder_name=True)
    group_by: str | None = option(
        "regular expression on a file's path below `image_folder` whose first group (or whole "
        "match) names the patient; a patient's images share one split (default: DICOM says who "
        "the patient is, and other images are on their own)",
        None,
    )
    spatial_dimension: int = option(
        "of the images of `image_folder`: 3 makes one of each series of DICOM, 2 of each file",
        2,
        least=2,
        most=3,
    )
    test_fraction: float = option(
        "share of `image_folder` that tests; 1 makes a test split alone, as an OOD set needs",
        0.2,
        above=0,
        most=1,
    )
    val_fraction: float = option(
        "share of the rest of `image_folder` that validates", 0.05, above=0, below=1
    )
    corrupt: tuple[str, ...] = option(
        "write the images of `of` again, once with each of these faults, as OOD sets",
        (),
        choices=FAULTS,
    )
    of: Path | None = option("split of the images that `corrupt` takes", None, exists=True)
    severity: int = option("of the faults, 1 (hardly visible) to 5 (gross)", 3, least=1, most=5)
    first_n: int | None = option("only so many images of `of`", None, least=1)
    seed: int = option("seed of the division into splits, or of the faults", 2, least=0)
    num_workers: int = option("processes that write images", 2, least=0, most=MAX_WORKERS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image_folder is None) != (self.name is None):
            raise UserError("`image_folder`, `name`: found one, expected both or neither")
        if self.image_lists and self.source_dir is None:
            raise UserError("`image_lists`: found without `source_dir`, expected both")
        if self.name is not None and "," in self.name:
            raise UserError(f"`name`: found {self.name!r}, expected no comma, which lists splits")
        if self.name in TAKEN or (self.name or "").endswith(("_vflip", "_hflip")):
            raise UserError(
                f"`name`: found {self.name!r}, expected none of {', '.join(TAKEN)}, which scoring "
                "takes for its own sets, nor one that ends as flipped sets do"
            )
        if self.of and re.search("_[vh]flip", self.of.stem) and not self.of.exists():
            raise UserError(
                f"`of`: {self.of}: no such file; a split that is flipped by its name alone has no "
                "images to take, expected the split of the images as they are stored"
            )
        if self.group_by is not None and self.image_folder is None:
            raise UserError("`group_by`: found without `image_folder`, expected both")
        if self.spatial_dimension == 3 and self.image_folder is None:
            raise UserError("`spatial_dimension`: found without `image_folder`, expected both")
