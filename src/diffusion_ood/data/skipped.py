"""The record of images that are left out because they cannot be read."""

from __future__ import annotations

import csv
from pathlib import Path

from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.data.remote import shown
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.files import as_text, atomic_write

FILE = "skipped.csv"
COLUMNS = ("path", "row", "reason", "set")


def report_skipped(images: ImageSet, name: str, run_dir: Path) -> None:
    """Print how many images of a set are left out, and list them in `run_dir/skipped.csv`.

    Rows of other sets in the file are kept. Every process has to call this.

    Raises:
        UserError: the processes leave out different images.
    """
    distributed.require_same_on_all_ranks(
        images.skipped,
        f"{images.split.path}: the processes cannot read different images of it, expected all "
        "processes to see the same files",
    )
    if distributed.is_main():
        path = run_dir / FILE
        _write(path, name, images)
        if images.skipped:
            total = len(images) + len(images.skipped)
            print(f"{name}: {len(images.skipped)} of {total} images are skipped, see {path}")


def _write(path: Path, name: str, images: ImageSet) -> None:
    """Replace the rows of this set; a file without rows is removed."""
    rows: list[list[str]] = []
    if path.exists():
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row[-1:] not in ([COLUMNS[-1]], [name])]
    for image in images.skipped:
        rows.append([shown(image.path), str(image.row), as_text(image.reason), name])
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
