"""decisions.csv: a row an image, written as it is decided, and never lost or doubled.

While several processes work, each appends to a part of its own, parts/decisions.<rank>.csv; a
single one appends to the file itself. When all are done the file holds the images that were asked
for, in their order; or decisions.parquet does in its place, with typed columns. Decisions on other
images, of an earlier run, move to earlier.csv.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import (
    as_cell,
    atomic_write,
    whole_records,
    write_json,
    write_through,
)
from diffusion_ood.runtime.imports import require

if TYPE_CHECKING:
    from typing_extensions import Self

FILE, EARLIER, SIDECAR, PARTS = "decisions.csv", "earlier.csv", "screening.json", "parts"
PARQUET, GROUPS, REPORT = "decisions.parquet", "groups.csv", "report.html"
WRITTEN = (FILE, PARQUET, EARLIER, SIDECAR, GROUPS, REPORT)
LEFTOVERS = tuple(f".{name}.*.tmp" for name in WRITTEN)
"""What a killed screening may have left half written."""


@dataclass(frozen=True)
class Decision:
    """What was decided of an image; without a score there is a reason.

    Attributes:
        file: its name.
        score: higher is more out of distribution.
        p_value: the share of in-distribution images that score as high.
        is_ood: whether it is called out of distribution.
        loudest: the method by which it is the most unusual.
        milliseconds: that it took, of reading and network calls.
        reason: why it cannot be read; empty of others.
        content: a digest of the pixels, by which an unchanged image is known.
    """

    file: str
    score: float | None = None
    p_value: float | None = None
    is_ood: bool | None = None
    loudest: str = ""
    milliseconds: float | None = None
    reason: str = ""
    content: str = ""

    def row(self) -> list[str]:
        """As text, in the order of the fields."""
        return ["" if v is None else as_cell(str(v)) for v in asdict(self).values()]

    def as_json(self) -> str:
        """A line of JSON, without what it lacks."""
        known = {k: v for k, v in asdict(self).items() if v not in (None, "")}
        return json.dumps(known, allow_nan=False)

    @classmethod
    def of_row(cls, row: Mapping[str, str]) -> Self:
        """What `row` gave; ValueError or KeyError of anything else."""
        text = {name: row[name] for name in HEADER}
        if bool(text["score"]) == bool(text["reason"]):
            raise ValueError("found neither a score nor a reason")
        numbers = {k: float(text[k]) if text[k] else None for k in NUMBERS}
        is_ood = {"True": True, "False": False, "": None}[text["is_ood"]]
        return cls(**{**text, **numbers, "is_ood": is_ood})  # type: ignore[arg-type] # by their names


HEADER = tuple(field.name for field in fields(Decision))
NUMBERS = ("score", "p_value", "milliseconds")


def begin(folder: Path, detector: str) -> None:
    """Join what killed processes left in parts, which would look newer than what follows.

    One process calls this, before any opens its `DecisionFile`.

    Args:
        folder: of the output.
        detector: digest of the detector, since decisions of another would not go together.

    Raises:
        UserError: decisions of another detector, or a file that is something else.
    """
    _check_detector(folder, detector)
    _write(folder / FILE, {d.file: d for d in _all(folder, (PARQUET, FILE))}.values())
    _remove_parts(folder)


class DecisionFile:
    """The decisions of one process in a folder, and those that were made there before.

    Args:
        folder: of the output, after `begin`.
        rank: of this process.

    Attributes:
        finished: earlier decisions by the names of their images; those on images that could not be
            read are left out, which may be mended since.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.finished = {d.file: d for d in _all(folder) if not d.reason}
        path = folder / FILE if rank == 0 else _part(folder, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        if rank:
            _write(path, [])
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by `__exit__`

    def append(self, decisions: Iterable[Decision]) -> None:
        """Add decisions; on return they are on disk."""
        write_through(self._file, _encode(d.row() for d in decisions).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the part; `finish` joins it with the others."""
        self._file.close()


def finish(folder: Path, decisions: Sequence[Decision], name: str = FILE) -> Path:
    """Let the file hold these, and remove the parts; one process calls this, after all closed.

    What else there was moves to earlier.csv.

    Args:
        folder: of the output.
        decisions: in their order.
        name: of the file, FILE or PARQUET; the other one is removed.

    Returns:
        The file's path.
    """
    asked = {decision.file for decision in decisions}
    others = {d.file: d for d in _all(folder) if d.file not in asked and not d.reason}
    if others or (folder / EARLIER).exists():  # before the rows leave their old file
        _write(folder / EARLIER, others.values())
    (_write if name == FILE else _write_parquet)(folder / name, decisions)
    (folder / (PARQUET if name == FILE else FILE)).unlink(missing_ok=True)
    _remove_parts(folder)
    return folder / name


def _remove_parts(folder: Path) -> None:
    for part in (folder / PARTS).glob("decisions.*.csv"):
        part.unlink()


def made(folder: Path) -> dict[str, Decision]:
    """The last decision on each image, in all files of a folder."""
    return {decision.file: decision for decision in _all(folder)}


def _all(folder: Path, names: Sequence[str] = (EARLIER, PARQUET, FILE)) -> list[Decision]:
    """Every decision in some files of a folder and in the parts, later ones last."""
    parts = sorted((folder / PARTS).glob("decisions.*.csv"))
    return [d for path in (*(folder / name for name in names), *parts) for d in _read(path)]


def _part(folder: Path, rank: int) -> Path:
    return folder / PARTS / f"decisions.{rank}.csv"


def _check_detector(folder: Path, detector: str) -> None:
    path = folder / SIDECAR
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["detector"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: not the file of a screening, expected JSON") from None
        if found != detector:
            raise UserError(
                f"{path}: found decisions of the detector {str(found)[:12]}, expected "
                f"{detector[:12]}; use another `output`"
            )
        return
    for name in WRITTEN:
        if (folder / name).exists():
            raise UserError(
                f"{folder / name}: found a file of something else, without {SIDECAR}; "
                "use another `output`"
            )
    write_json(path, {"detector": detector})


def _read(path: Path) -> list[Decision]:
    """The whole rows of a file, which may be absent, or torn at its end where it is CSV."""
    if path.name == PARQUET:
        return _read_parquet(path) if path.exists() else []
    data = path.read_bytes() if path.exists() else b""
    whole = whole_records(data).decode("utf-8", "backslashreplace")
    found = []
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    try:
        if whole and tuple(reader.fieldnames or ()) != HEADER:
            raise ValueError(f"found the columns {reader.fieldnames}")
        for row in reader:
            found.append(Decision.of_row(row))
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path}, row {len(found) + 2}: {error}, expected {', '.join(HEADER)}"
        ) from None
    return found


def _write(path: Path, decisions: Iterable[Decision]) -> None:
    with atomic_write(path) as file:
        file.write(_encode([HEADER, *(decision.row() for decision in decisions)]))


def _write_parquet(path: Path, decisions: Iterable[Decision]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"is_ood": pa.bool_(), **dict.fromkeys(NUMBERS, pa.float64())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in HEADER])
    rows = [
        {k: as_cell(v) if isinstance(v, str) else v for k, v in vars(decision).items()}
        for decision in decisions
    ]
    with atomic_write(path, "wb") as file:
        parquet.write_table(pa.Table.from_pylist(rows, schema), file)


def _read_parquet(path: Path) -> list[Decision]:
    require("ray", "pyarrow")
    from pyarrow import ArrowException, parquet

    try:
        return [Decision(**row) for row in parquet.read_table(path).to_pylist()]
    except (ArrowException, TypeError) as error:
        raise UserError(f"{path}: {error}, expected {', '.join(HEADER)}") from None


def _encode(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
