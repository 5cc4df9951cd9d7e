"""The documents' walks are walked: their own commands, one after the other, on tiny images.

Flags are added behind those of the document to make the work small; nothing in front is changed.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import ROOT, blocks, commands
from PIL import Image

from diffusion_ood.commands.console import COMMANDS
from diffusion_ood.data.splits import write_split

MODULES = {command.script: command.module for command in COMMANDS.values()}
SIDE = 16
SMALL = ("--device=cpu", "--num_workers=0", "--compile=off")
ADDED = {
    "train_ddpm.py": (
        "--model_type=tiny",
        "--n_epochs=1",
        "--batch_size=8",
        f"--image_size={SIDE}",
    ),
    "reconstruct.py": ("--first_n=4", "--first_n_val=4"),
}
FEW_CALLS = {True: ("--budget=2",), False: ("--num_inference_steps=4", "--inference_skip_factor=2")}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images(folder: Path, count: int) -> list[Path]:
    """Noisy squares, another grey level and size in each folder."""
    rng = np.random.default_rng(len(str(folder)))
    folder.mkdir(parents=True)
    paths = [folder / f"{i:03}.png" for i in range(count)]
    for path in paths:
        pixels = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
        pixels[4:12, 4 : 6 + len(folder.name) % 6] += 120
        Image.fromarray(pixels).save(path)
    return paths


def data_set(root: Path, name: str) -> None:
    """A prepared data set: images and the splits that a document names."""
    (root / "data_splits").mkdir(parents=True, exist_ok=True)
    for part in ("train", "val", "test"):
        paths = images(root / name / part, 8)
        rows = [f"../{path.relative_to(root)}" for path in paths]
        write_split(root / "data_splits" / f"{name}_{part}.csv", rows, None)


def walk(
    document: str,
    heading: str | None = None,
    *,
    without: tuple[str, ...] = (),
    instead: tuple[str, str] = ("", ""),
) -> None:
    """Run what a document has under a heading.

    `without` names scripts that would download, `instead` a text and what to read in its place.
    """
    for block in blocks(ROOT / document, heading):
        for program, *words in commands(block.replace(*instead)):
            if program == "python" and words[0] in MODULES and words[0] not in without:
                run(words[0], words[1:])


def run(script: str, flags: list[str]) -> None:
    module = importlib.import_module(f"diffusion_ood.commands.{MODULES[script]}")
    added = list(ADDED.get(script, ()))
    if script == "reconstruct.py":
        added += FEW_CALLS[any(flag.startswith("--budget") for flag in flags)]
    module.main([*flags, *added, *(SMALL if script in ADDED else ())])


def decided(folder: Path) -> dict[str, int]:
    """How many images of each set have a decision."""
    files = folder.glob("ood/decisions_*.csv")
    return {file.stem.removeprefix("decisions_"): len(pd.read_csv(file)) for file in files}


def test_the_four_stages_of_the_readme(workplace: Path) -> None:
    for name in ("FashionMNIST", "MNIST"):
        data_set(workplace / "data_root", name)
    walk("README.md", "## The four stages", without=("get_datasets.py",))
    assert decided(workplace / "output_root" / "fashionmnist") == {
        "in": 4, "MNIST": 4, "FashionMNIST_vflip": 4, "FashionMNIST_hflip": 4,
    }  # fmt: skip


def test_the_readme_with_data_of_ones_own(workplace: Path) -> None:
    for name in ("images", "others"):
        images(workplace / "to" / name, 60)
    walk("README.md", "## Your own data", instead=("/path/to", "to"))
    assert decided(workplace / "runs" / "mine") == {"in": 4, "other": 4}


def test_the_tutorial(workplace: Path) -> None:
    for name in ("HeadCT", "AbdomenCT", "ChestCT", "BreastMRI", "Hand"):
        images(workplace / "MedNIST" / name, 60)
    walk("docs/own_data.md")
    assert decided(workplace / "runs" / "headct") == {
        "in": 4, "AbdomenCT": 4, "ChestCT": 4, "BreastMRI": 4, "Hand": 4,
    }  # fmt: skip
    assert len(pd.read_csv(workplace / "data/data_splits/ChestCT_test.csv")) == 60


def test_more_data_sets(workplace: Path) -> None:
    for name in ("CIFAR10", "SVHN", "CelebA"):
        data_set(workplace / "data_root", name)
    walk("README_additional.md", "## CIFAR10 against SVHN and CelebA", without=("get_datasets.py",))
    assert decided(workplace / "output_root" / "cifar10") == {
        "in": 4, "SVHN": 4, "CelebA": 4, "CIFAR10_vflip": 4, "CIFAR10_hflip": 4,
    }  # fmt: skip
