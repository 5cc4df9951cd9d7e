"""Cuts a list of images into lists that `diffusion-ood screen` takes: shards/0.csv, 1.csv and on.

    find /path/to/images -name '*.png' > names.txt
    python examples/cut_into_shards.py names.txt shards 100000

A name a line: URLs, or paths, which start at the list's own folder as in every list. The list may
be longer than memory.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path


def main() -> None:
    """Write a list of each so many names."""
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal() or int(sys.argv[3]) == 0:
        sys.exit(__doc__)
    names, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if not names.is_file() or folder.exists():
        sys.exit(f"expected a list {names}, and no {folder} yet: another list's would be mixed in")
    folder.mkdir(parents=True)
    with names.open(encoding="utf-8", errors="surrogateescape") as lines:
        rows = ([absolute(line.rstrip("\n"), names.parent)] for line in lines if line.strip())
        for number in itertools.count():
            shard = list(itertools.islice(rows, size))
            if not shard:
                break
            first = shard[0][0]  # of all others a network's disk would be asked for hours
            if "://" not in first and not Path(first).exists():
                sys.exit(f"found no {first}, expected paths that start at the list's own folder")
            path = folder / f"{number}.csv"
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([["image"], *shard])
    if number == 0:
        sys.exit(f"{names}: found no name")
    print(f"{number:,} shards in {folder}: 0 to {number - 1}")


def absolute(name: str, folder: Path) -> str:
    """A name that is the same from everywhere."""
    return name if "://" in name else str(folder.absolute() / name)


if __name__ == "__main__":
    main()
