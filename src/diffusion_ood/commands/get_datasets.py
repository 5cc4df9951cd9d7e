"""Prepare data sets: images as PNG files and split CSVs for training, validation and testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_ood import cli
from diffusion_ood.console import invocation
from diffusion_ood.errors import UserError
from diffusion_ood.options import DatasetOptions
from diffusion_ood.registries import SOURCES

if TYPE_CHECKING:
    from diffusion_ood.data.sources.base import Part


GROUPS = (DatasetOptions,)


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the data sets, or the folder of images, that the command line names.

    Raises:
        UserError: a wrong flag; or data sets that cannot be prepared, after all others are.
    """
    command_line = cli.parse(__doc__, GROUPS, argv)
    options = command_line[DatasetOptions]
    data_root = options.data_root.expanduser().resolve()
    if options.image_folder is not None:
        if "datasets" in command_line.given:
            raise UserError("`datasets`, `image_folder`: found both, expected one of them")
        _prepare_folder(options, data_root)
    elif options.datasets:
        _prepare_sets(options, data_root)
    else:
        raise UserError(f"`datasets`: found none, expected some of {', '.join(SOURCES)}")


def _prepare_folder(options: DatasetOptions, data_root: Path) -> None:
    from diffusion_ood.data.sources.image_folder import prepare_folder

    assert options.image_folder is not None, "the caller checks it"
    assert options.name is not None, "DatasetOptions refuses a folder without a name"
    splits = prepare_folder(
        options.image_folder.expanduser(),
        options.name,
        data_root,
        group_by=options.group_by,
        test_fraction=options.test_fraction,
        seed=options.seed,
    )
    if "train" in splits:
        _print_next(options.name, splits, is_grayscale=False)


def _prepare_sets(options: DatasetOptions, data_root: Path) -> None:
    """Prepare every set that is available, then report the others."""
    from diffusion_ood.data.sources.base import RawLocation
    from diffusion_ood.data.sources.prepare import prepare

    failures = []
    ready = {}
    for name in dict.fromkeys(options.datasets):
        location = RawLocation(
            name=name,
            raw_dir=data_root / name / "raw",
            source_dir=options.source_dir and options.source_dir.expanduser().resolve(),
            download=options.download_celeba or name != "CelebA",
        )
        try:
            ready[name] = prepare(
                location,
                SOURCES[name],
                data_root,
                seed=options.seed,
                num_workers=options.num_workers,
            )
        except UserError as error:
            failures.append(str(error))
        except OSError as error:  # a full disk, or a folder without permission
            failures.append(f"{name}: cannot be written ({error})")
    trainable = next((name for name in ready if "train" in ready[name]), None)
    if trainable is not None:
        _print_next(trainable, ready[trainable], SOURCES[trainable].is_grayscale)
    if failures:
        raise UserError(*failures)


def _print_next(name: str, splits: Mapping[Part, Path], is_grayscale: bool) -> None:
    command = [
        f"{invocation('train')} --output_dir=RUNS",
        f"--model_name={name.lower()}",
        f"--training_ids={splits['train']}",
        f"--validation_ids={splits['val']}",
    ]
    print("\nnext, for example:\n" + " \\\n".join(command + ["--is_grayscale=1"] * is_grayscale))
