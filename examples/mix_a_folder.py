r"""A folder as it might come from anywhere: usual images, mirrored ones, others, a broken file.

    python examples/mix_a_folder.py data/data_splits/MNIST5k_test.csv \
        data/data_splits/PhotoPatches_test.csv mixed

`diffusion-ood screen` with a detector of the first split's images then tells which are which.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image, ImageOps

from diffusion_ood import cli
from diffusion_ood.data.splits import Split, read_split

USUAL, MIRRORED, OTHERS = 60, 10, 10


def main(usual: str, others: str, folder: str, first: str = "0") -> None:
    """Write the folder anew, from images of the first split from number `first` on."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    split, start = read_split(Path(usual)), int(first)
    copied = _copy(split, start, USUAL, Path(folder), "usual")
    for path in _copy(split, start + USUAL, MIRRORED, Path(folder), "mirrored"):
        with Image.open(path) as image:
            mirrored = ImageOps.mirror(image)
        mirrored.save(path)
    _copy(read_split(Path(others)), 0, OTHERS, Path(folder), "other")
    Path(folder, "broken.png").write_bytes(copied[0].read_bytes()[:60])


def _copy(split: Split, start: int, count: int, folder: Path, name: str) -> list[Path]:
    """Images of a split under names of their own."""
    found = []
    for number in range(start, min(start + count, len(split))):
        path = split.image_path(number)
        found.append(folder / f"{name}_{number:03}{path.suffix}")
        shutil.copyfile(path, found[-1])
    return found


if __name__ == "__main__":
    cli.run(lambda: main(*sys.argv[1:]))
