"""How a score table grows without ever losing or doubling an image.

While it grows, the table `ood/results_X.csv` is spread over

    ood/results_X.json              {"fingerprint": what the scores depend on, "facts": the rest}
    ood/parts/results_X.<rank>.csv  one append-only file a process
    ood/parts/results_X.spare.csv   finished images that the last run did not ask for

and `merge_parts` joins them. After a kill between any two operations a copy of each finished image
still lies in one of these files. Where several hold it, the finished table comes first, then the
leftovers, then the processes' parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diffusion_ood.calibration.base import KEY_COLUMNS, check_finite
from diffusion_ood.detection.folders import PARTS
from diffusion_ood.detection.table import encode, parse, write_table
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import (
    atomic_write,
    sha256,
    whole_records,
    write_json,
    write_through,
)
from diffusion_ood.runtime.words import shown

Sidecar = dict[str, dict[str, Any]]

LEFTOVER = "spare"
"""What the part of the finished images that were not asked for is called on disk."""


def read_sidecar(path: Path) -> Sidecar | None:
    """The `fingerprint` and `facts` beside the table `path`; None when it has no sidecar."""
    sidecar = path.with_suffix(".json")
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
        return {"fingerprint": dict(found["fingerprint"]), "facts": dict(found["facts"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{sidecar}: not the sidecar of a score table, expected JSON with the objects "
            '"fingerprint" and "facts"'
        ) from None


def first_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first key in which two fingerprints differ, in words; empty when they are equal."""
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            return f"{key} {shown(found.get(key))}, expected {shown(expected.get(key))}"
    return ""


def finished_images(path: Path, rows_per_image: int) -> frozenset[str]:
    """The images that are complete in a table, or in any process's part of it."""
    tables = (_read_source(source, rows_per_image) for source in (path, *_parts(path)))
    return frozenset().union(*(table["filename"] for table in tables))


class TableWriter:
    """One process's growing part of the table `path`.

    Opening drops what a killed process left half written: a torn last record and images with
    fewer rows than `rows_per_image`.

    With several processes, let all of them open their writer before any appends (a barrier), so
    that all see the same `finished`; and close them all before `merge_parts`.

    Args:
        path: the final table, `ood/results_X.csv`.
        fingerprint: what the scores depend on and what has to agree between the tables that are
            compared: checkpoint, start points, sampler, scores, seed; JSON values.
        rows_per_image: start points × repeats.
        facts: what else is worth knowing about this set of images; JSON values, never compared.
        rank: number of this process.

    Raises:
        UserError: the files that exist were made with another fingerprint.
    """

    def __init__(
        self,
        path: Path,
        *,
        fingerprint: Mapping[str, object],
        rows_per_image: int,
        facts: Mapping[str, object] | None = None,
        rank: int = 0,
    ) -> None:
        _check_or_write_sidecar(
            path, {**fingerprint, "rows_per_image": rows_per_image}, facts or {}
        )
        part = _part_path(path, str(rank))
        self._columns = _repair(part, rows_per_image)
        self._rows_per_image = rows_per_image
        self.finished = finished_images(path, rows_per_image)
        """Images that were complete on opening, in the table or in any process's part."""
        part.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(part, "ab", buffering=0)  # noqa: SIM115 - closed by `close`

    def append(self, rows: pd.DataFrame) -> None:
        """Add all rows of one or more images; on return they are on disk.

        Args:
            rows: columns filename, type, t, scores, and repeat where there are several.

        Raises:
            UserError: a score that is not finite.
            ValueError: an incomplete image, or other columns than before.
        """
        columns = list(rows.columns)
        if self._columns not in ([], columns):
            raise ValueError(f"found the columns {columns}, expected {self._columns}")
        if (rows.groupby("filename").size() != self._rows_per_image).any():
            raise ValueError(f"expected {self._rows_per_image} rows for every image")
        check_finite(rows, "the model's ")
        write_through(self._file, encode(rows, header=not self._columns).encode())
        self._columns = columns

    def close(self) -> None:
        """Close the part; it stays on disk until `merge_parts`."""
        self._file.close()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def merge_parts(path: Path, filenames: Sequence[str], rows_per_image: int) -> int:
    """Join the finished table and all parts into `path`, ordered by `filenames`, t and repeat.

    The table then holds exactly `filenames`. Finished images that are not among them (an earlier
    run had a larger `first_n`) move to the part of leftovers, where the next run that wants them
    finds them. One process calls this, after all writers are closed.

    Returns:
        The number of images in the part of leftovers.

    Raises:
        UserError: an image has no scores yet, has other (t, repeat) than the rest, was scored by
            two processes, or is listed twice.
    """
    position = {filename: i for i, filename in enumerate(filenames)}
    if len(position) < len(filenames):
        again = next(name for i, name in enumerate(filenames) if position[name] != i)
        raise UserError(f"{path}: the split lists {again!r} twice, expected it once")
    table = _join(path, rows_per_image)
    scored = frozenset(table["filename"])
    missing = [filename for filename in filenames if filename not in scored]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(filenames)} images have no scores yet, first "
            f"{missing[0]!r}; run the same command again to score them"
        )
    order = table["filename"].map(position)  # NaN for images that were not asked for
    wanted, leftover = table[order.notna()], table[order.isna()]
    keys = [key for key in KEY_COLUMNS[1:] if key in wanted]
    levels = len(wanted[keys].drop_duplicates())
    if levels != rows_per_image:  # as each image has so many rows, all have the same (t, repeat)
        raise UserError(
            f"{path}: the images have {levels} different {' and '.join(keys)} altogether, "
            f"expected {rows_per_image}"
        )
    by = [wanted[key] for key in reversed(keys)]
    wanted = wanted.iloc[np.lexsort((*by, order[order.notna()]))]
    leftover_part = _part_path(path, LEFTOVER)
    # In this order: a row is written to its new file before its old file loses it.
    if not leftover.empty:
        write_table(leftover_part, leftover)
    write_table(path, wanted)
    for part in _parts(path):
        if leftover.empty or part != leftover_part:
            part.unlink()
    return int(leftover["filename"].nunique())


def note_table(path: Path) -> None:
    """Note the digest of a finished table in its sidecar, by which a changed one is known."""
    sidecar = read_sidecar(path)
    if sidecar is not None:
        sidecar["facts"]["table"] = sha256(path)
        write_json(path.with_suffix(".json"), sidecar)


def forget(path: Path, filenames: Collection[str]) -> None:
    """Take the rows of some images out of a table and all its parts, while no writer is open."""
    for source in (path, *_parts(path)):
        data = whole_records(source.read_bytes()) if source.exists() else b""
        if not data:
            continue
        table = parse(source, data)
        kept = table[~table["filename"].isin(filenames)]
        if kept.empty:
            source.unlink()
        elif len(kept) < len(table):
            write_table(source, kept)


def _part_path(path: Path, name: str) -> Path:
    return path.parent / PARTS / f"{path.stem}.{name}.csv"


def _parts(path: Path) -> list[Path]:
    """The parts that exist, in the order of their ranks."""
    pattern = re.compile(re.escape(path.stem) + rf"\.(\d+|{LEFTOVER})\.csv")
    found = [part for part in (path.parent / PARTS).glob("*.csv") if pattern.fullmatch(part.name)]
    return sorted(found, key=lambda part: (len(part.name), part.name))


def _check_or_write_sidecar(
    path: Path, fingerprint: Mapping[str, object], facts: Mapping[str, object]
) -> None:
    """Write the sidecar, or refuse when rows exist that were made with another fingerprint."""
    file = path.with_suffix(".json")
    sidecar = json.loads(json.dumps({"fingerprint": fingerprint, "facts": facts}))
    found = read_sidecar(path)
    if any(part.exists() and part.stat().st_size for part in (path, *_parts(path))):
        remedy = f"delete {path.stem}.* here and in parts/, or use another `model_name`"
        if found is None:
            raise UserError(f"{file}: missing beside its score table; {remedy}")
        if difference := first_difference(found["fingerprint"], sidecar["fingerprint"]):
            raise UserError(f"{file}: the scores that exist have {difference}; {remedy}")
    if found != sidecar:
        write_json(file, sidecar)


def _read_source(path: Path, rows_per_image: int) -> pd.DataFrame:
    """The rows of the images that are complete in a part, or in the table, that may be absent."""
    data = whole_records(path.read_bytes()) if path.exists() else b""
    if not data:
        return _stacked([])
    table = parse(path, data)
    sizes = table.groupby("filename")["t"].transform("size")
    return table[sizes == rows_per_image]


def _repair(part: Path, rows_per_image: int) -> list[str]:
    """Rewrite a part without torn records and incomplete images; return its columns, if any."""
    data = part.read_bytes() if part.exists() else b""
    table = _read_source(part, rows_per_image)
    columns = [] if table.empty else list(table.columns)
    repaired = encode(table, header=bool(columns)).encode()
    if repaired != data:
        with atomic_write(part, "wb") as file:
            file.write(repaired)
    return columns


def _join(path: Path, rows_per_image: int) -> pd.DataFrame:
    """Every finished image once, from the first of: the table, the leftovers, the parts."""
    leftover_part = _part_path(path, LEFTOVER)
    ranks = [part for part in _parts(path) if part != leftover_part]
    tables = {s: _read_source(s, rows_per_image) for s in (path, leftover_part, *ranks)}
    columns = {tuple(table.columns) for table in tables.values() if not table.empty}
    if len(columns) > 1:
        raise UserError(f"{path}: its parts have different columns: {sorted(columns)}")
    joined = _stacked(tables[rank] for rank in ranks)
    again = joined.duplicated([column for column in KEY_COLUMNS if column in joined])
    if again.any():
        raise UserError(
            f"{path}: {joined['filename'][again].iloc[0]!r} was scored by two processes; if two "
            "jobs ran at once, stop one and delete its part"
        )
    for source in (leftover_part, path):
        rest = joined[~joined["filename"].isin(tables[source]["filename"])]
        joined = _stacked([tables[source], rest])
    return joined


def _stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables; empty ones may have other columns and types, and are left out."""
    found = [table for table in tables if not table.empty]
    if not found:
        return pd.DataFrame(columns=["filename", "type", "t"])
    return pd.concat(found, ignore_index=True)
