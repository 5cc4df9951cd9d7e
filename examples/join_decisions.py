"""Which images of all shards to report, at most a share of them false alarms on average.

    python examples/join_decisions.py shards screened reported.csv 0.1

Of each list in `shards` the folder of that name within `screened` is the output of
`diffusion-ood screen`. P-values are of single images; the share of false alarms, between 0 and 1,
is of all that are reported, so it is kept over all shards here, by Benjamini and Hochberg. One
shard is in memory at a time, whatever their number.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from diffusion_ood.calibration.fdr import ROUNDING


def main() -> None:
    """Join the decisions of all shards, and write those that are reported."""
    if len(sys.argv) != 5 or not 0 < pd.to_numeric(sys.argv[4], errors="coerce") < 1:
        sys.exit(__doc__)
    lists, folder, output = map(Path, sys.argv[1:4])
    shards = [folder / path.stem for path in sorted(lists.glob("*.csv"))]
    lacking = [shard.name for shard in shards if not (shard / "report.html").exists()]
    if lacking or not shards:
        found = f"{len(shards) - len(lacking):,} of {len(shards):,} shards finished"
        sys.exit(f"{folder}: found {found}, expected all of {lists}; missing {lacking[:3]}")
    detectors = {json.loads((shard / "screening.json").read_text())["detector"] for shard in shards}
    if len(detectors) != 1:
        sys.exit(f"{folder}: found shards of {len(detectors)} detectors, expected one")
    counts = pd.concat([counted(decisions(shard)) for shard in shards])
    unread = int(counts[counts.index.isna()].sum())
    counts = counts[counts.index.notna()]
    if counts.empty:
        sys.exit(f"{folder}: found {unread:,} images, none of which could be read")
    limit = largest_reported(counts.groupby(level=0).sum(), float(sys.argv[4]))
    num_reported = 0
    for number, shard in enumerate(shards):
        rows = decisions(shard)
        rows = rows[rows["p_value"] <= limit]
        rows.to_csv(output, mode="a" if number else "w", header=not number, index=False)
        num_reported += len(rows)
    print(
        f"{len(shards):,} shards, {counts.sum():,} images that were read and {unread:,} that could "
        f"not be: {num_reported:,} reported"
    )


def decisions(shard: Path) -> pd.DataFrame:
    """Names, scores and p-values of a shard."""
    columns = ["file", "score", "p_value"]
    if (shard / "decisions.parquet").exists():
        return pd.read_parquet(shard / "decisions.parquet", columns=columns)
    path = shard / "decisions.csv"  # in which a file may be called NA
    return pd.read_csv(path, usecols=columns, keep_default_na=False, na_values={"p_value": ""})


def counted(rows: pd.DataFrame) -> pd.Series[int]:
    """How many images have each p-value, and how many have none."""
    return rows["p_value"].value_counts(dropna=False)


def largest_reported(counts: pd.Series[int], fdr: float) -> float:
    """The largest p with p <= fdr · (images with at most p) / images, or -1 where there is none.

    Args:
        counts: how many images have each p-value, which are few: those of n validation images
            have n + 1.
        fdr: share of false alarms, in (0, 1).
    """
    p = counts.index.to_numpy(dtype=float)
    kept = p <= fdr * (1 + ROUNDING) * counts.cumsum().to_numpy() / counts.sum()
    return float(p[kept].max()) if kept.any() else -1.0


if __name__ == "__main__":
    main()
