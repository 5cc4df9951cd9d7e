"""Images that are left out with --on_error=skip: said, counted, and listed in the run's folder."""

from __future__ import annotations

import csv
from pathlib import Path

from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.errors import UserError
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.files import atomic_write

FILE = "skipped.csv"
COLUMNS = ("path", "row", "reason", "set")


def report_skipped(images: ImageSet, name: str, run_dir: Path) -> None:
    """Print how many images of a set are left out, and list them in `run_dir/skipped.csv`.

    What the file says of other sets stays. Every process has to call this.

    Raises:
        UserError: the processes do not leave out the same images.
    """
    first, *others = distributed.gather(images.skipped)
    if any(other != first for other in others):
        raise UserError(
            f"{images.split.path}: the processes cannot read different images of it, expected all "
            "to see the same files"
        )
    if distributed.is_main():
        path = run_dir / FILE
        _write(path, name, images)
        if images.skipped:
            total = len(images) + len(images.skipped)
            print(f"{name}: {len(images.skipped)} of {total} images are skipped, see {path}")


def _write(path: Path, name: str, images: ImageSet) -> None:
    """Replace the rows of this set; without any row there is no file."""
    rows: list[list[str]] = []
    if path.exists():
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row[-1:] not in ([COLUMNS[-1]], [name])]
    rows += [[image.path, str(image.row), image.reason, name] for image in images.skipped]
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
