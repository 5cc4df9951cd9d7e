"""Prepare data sets: images as PNG files and split CSVs for training, validation and testing."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_ood import cli
from diffusion_ood.console import invocation
from diffusion_ood.errors import UserError
from diffusion_ood.options import DatasetOptions, DetectOptions
from diffusion_ood.registries import SOURCES

if TYPE_CHECKING:
    from diffusion_ood.data.sources.base import Part
    from diffusion_ood.data.splits import Split

GROUPS = (DatasetOptions,)
OF_FAULTS = {"corrupt", "of", "severity", "first_n"}
WITH_FAULTS = {"data_root", "seed", "num_workers"}
DIVISION = {"group_by", "test_fraction", "val_fraction"}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the data sets, the folder of images, or the faulty sets that the line names.

    Raises:
        UserError: a wrong flag; or data sets that cannot be prepared, after all others are.
    """
    line = cli.parse(__doc__, GROUPS, argv)
    options = line[DatasetOptions]
    for first, second in itertools.combinations(("datasets", "image_folder", "image_lists"), 2):
        if {first, second} <= line.given:
            raise UserError(f"`{first}`, `{second}`: found both, expected one of them")
    _refuse_beside_faults(line.given, options)
    if options.image_folder is None and not options.datasets:
        raise UserError(f"`datasets`: found none, expected some of {', '.join(SOURCES)}")
    data_root = options.data_root.expanduser().resolve()
    if options.corrupt:
        _make_faulty(options, data_root)
    elif options.image_lists:
        _make_lists(options, data_root)
    elif options.image_folder is None:
        _prepare_sets(options, data_root)
    else:
        _divide_folder(options, data_root, line.given)


def _refuse_beside_faults(given: Collection[str], options: DatasetOptions) -> None:
    """Refuse `of` and its like without `corrupt`, and what `corrupt` does not read."""
    if not options.corrupt and (alone := sorted(OF_FAULTS & set(given))):
        raise UserError(f"`{alone[0]}`: found without names in `corrupt`, expected both")
    if options.corrupt and options.of is None:
        raise UserError("`corrupt`: found without `of`, expected both")
    if options.corrupt and (others := sorted(set(given) - OF_FAULTS - WITH_FAULTS)):
        raise UserError(f"`corrupt`, `{others[0]}`: found both, expected one of them")


def _make_faulty(options: DatasetOptions, data_root: Path) -> None:
    """Write the images of a split with faults, and say how they are scored."""
    from diffusion_ood.data.sources.faulty import make_faulty_sets

    assert options.of is not None, "_refuse_beside_faults refuses faults of nothing"
    splits = make_faulty_sets(
        options.of.expanduser(),
        data_root,
        options.corrupt,
        severity=options.severity,
        seed=options.seed,
        first_n=options.first_n,
        num_workers=options.num_workers,
    )
    print(f"\nnext, for {invocation('reconstruct')}:")
    print(f"--out_ids={','.join(map(str, splits.values()))}")


def _make_lists(options: DatasetOptions, data_root: Path) -> None:
    """Make splits of image lists."""
    from diffusion_ood.data.sources.listed import prepare_list

    assert options.source_dir is not None, "DatasetOptions refuses lists without a folder"
    root = options.source_dir.expanduser().resolve()
    for path in options.image_lists:
        prepare_list(path.expanduser(), root, data_root)


def _divide_folder(options: DatasetOptions, data_root: Path, given: Collection[str]) -> None:
    """Make splits of a folder of images, by its own folders or at random; say how to train."""
    from diffusion_ood.calibration import conformal
    from diffusion_ood.data.sources.good_folders import read_good_folders
    from diffusion_ood.data.sources.image_folder import prepare_folder
    from diffusion_ood.data.sources.prepare import write_splits
    from diffusion_ood.data.splits import read_split

    assert options.image_folder is not None, "the caller has seen it"
    assert options.name is not None, "DatasetOptions refuses a folder without a name"
    folder = options.image_folder.expanduser()
    parts = read_good_folders(folder) if folder.is_dir() else {}
    if parts and (idle := sorted(DIVISION & set(given))):
        raise UserError(
            f"`{idle[0]}`: has no effect on {folder}, whose own folders say what trains and what "
            "tests; leave it out"
        )
    splits = (
        write_splits(options.name, parts, data_root, options.seed)
        if parts
        else prepare_folder(
            folder,
            options.name,
            data_root,
            group_by=options.group_by,
            test_fraction=options.test_fraction,
            seed=options.seed,
            val_fraction=options.val_fraction,
            volumes=options.spatial_dimension == 3,
        )
    )
    if "val" in splits:
        for doubt in conformal.doubts(len(read_split(splits["val"])), DetectOptions.target_fpr, ()):
            print(cli.as_flags(f"warning: {doubt}; see `val_fraction`"))
    images = {"spatial_dimension": 3} if options.spatial_dimension == 3 else {}
    if images or ("train" in splits and _is_grey(read_split(splits["train"]))):
        images["is_grayscale"] = 1
    _print_next(options.name, splits, images)


def _prepare_sets(options: DatasetOptions, data_root: Path) -> None:
    """Prepare every set that is available, then report the others."""
    from diffusion_ood.data.sources.base import RawLocation
    from diffusion_ood.data.sources.prepare import prepare

    seed, num_workers = options.seed, options.num_workers
    source_dir = options.source_dir and options.source_dir.expanduser().resolve()
    failures = []
    ready = {}
    for name in dict.fromkeys(options.datasets):
        download = options.download_celeba or name != "CelebA"
        source = SOURCES[name]
        raw_dir = data_root / (source.raw_name or name) / "raw"
        location = RawLocation(name, raw_dir, source_dir, download)
        try:
            ready[name] = prepare(location, source, data_root, seed=seed, num_workers=num_workers)
        except UserError as error:
            failures.append(str(error))
        except OSError as error:  # a full disk, or a folder without permission
            failures.append(f"{name}: cannot be written ({error})")
    for name, splits in ready.items():
        if any(part.endswith("train") for part in splits):
            grey = {"is_grayscale": 1} if SOURCES[name].is_grayscale else {}
            _print_next(name, splits, {**grey, **SOURCES[name].options})
            break
    if failures:
        raise UserError(*failures)


def _is_grey(split: Split) -> bool:
    """Whether the first image has no colour, as far as it can be read without more options."""
    from diffusion_ood.data.readers import read_image
    from diffusion_ood.options import ImageOptions

    anything = ImageOptions(intensity_range=(0.0, 65_535.0))  # without it DICOM may be refused
    try:
        red, *others = read_image(split.image_path(0), anything)
    except UserError:
        return False
    return all((red == other).all() for other in others)


def _print_next(name: str, splits: Mapping[Part, Path], images: Mapping[str, int]) -> None:
    """A command that trains on the first of these splits that can, on images of these options."""
    train = next((part for part in splits if part.endswith("train")), None)
    if train is None:
        return
    own = train.removesuffix("train")
    command = [
        f"{invocation('train')} --output_dir=RUNS",
        f"--model_name={f'{name}_{own}'.strip('_').lower()}",
        f"--training_ids={splits[train]}",
        f"--validation_ids={splits[f'{own}val']}",
        *(f"--{option}={value}" for option, value in images.items()),
    ]
    print("\nnext, for example:\n" + " \\\n".join(command))
