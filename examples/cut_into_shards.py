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
    names, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True)  # and no other list may lie there
    with names.open(encoding="utf-8", errors="surrogateescape") as lines:
        rows = ([line.rstrip("\n")] for line in lines if line.strip())
        for number in itertools.count():
            shard = list(itertools.islice(rows, size))
            if not shard:
                break
            path = folder / f"{number}.csv"
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([["image"], *shard])


if __name__ == "__main__":
    main()
