"""Cuts a list of images into lists that `diffusion-ood screen` takes: shards/0.csv, 1.csv and on.

    find /path/to/images -name '*.png' > names.txt
    python examples/cut_into_shards.py names.txt shards 100000

A name a line, paths or URLs. The list may be longer than memory.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path


def main() -> None:
    """Write a list of each so many names."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    names, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if not names.is_file() or folder.exists():
        sys.exit(f"expected a list {names}, and no {folder} yet: another list's would be mixed in")
    folder.mkdir(parents=True)
    with names.open(encoding="utf-8", errors="surrogateescape") as lines:
        rows = ([line.rstrip("\n")] for line in lines if line.strip())
        for number in itertools.count():
            shard = list(itertools.islice(rows, size))
            if not shard:
                break
            path = folder / f"{number}.csv"
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([["image"], *shard])
    print(f"{number:,} shards in {folder}: 0 to {number - 1}")


if __name__ == "__main__":
    main()
