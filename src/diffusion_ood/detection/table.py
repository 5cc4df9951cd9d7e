"""The score table: a CSV file with a row for each image, start point and repeat.

The columns are `filename,type,t,mse,perceptual_difference` and any further scores to the right. A
row's key is (filename, t) or, where the column is there, (filename, t, repeat); `filename` is the
image path exactly as the split has it. Higher scores are more out of distribution.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diffusion_ood.calibration.base import KEY_COLUMNS, score_columns
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write

TYPES = ("val", "in", "out")
_NEEDS_QUOTES = re.compile(r'[,"\r\n]')


def read_table(path: Path) -> pd.DataFrame:
    """Read a score table: filename and type as text, t and repeat as int64, scores as float64.

    Rows are counted as a spreadsheet counts them: the header is row 1.

    Raises:
        UserError: a missing or empty file, a missing column, a t that is not a whole number, a
            score that is not finite, an unknown type, or a key that occurs twice.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such score table") from None
    table = parse(path, data)
    if table.empty:
        raise UserError(f"{path}: the table has no rows, expected at least one")
    return table


def parse(path: Path, data: bytes) -> pd.DataFrame:
    """The validated table in `data`, which may have no rows; `path` is named in errors."""
    if not data.strip():
        raise UserError(f"{path}: the file is empty, expected a score table")
    try:
        table = pd.read_csv(
            io.BytesIO(data),
            dtype=str,  # Python's own `float` is exact, the reader's is not in every pandas
            keep_default_na=False,  # an image may be called "NA"
            skip_blank_lines=False,  # they count as rows
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV table: {str(error).strip()}") from None
    # Tables of older programs begin with pandas' row numbers.
    table = table.drop(columns="Unnamed: 0", errors="ignore")
    missing = [column for column in ("filename", "type", "t") if column not in table]
    if missing or not score_columns(table):
        raise UserError(
            f"{path}: found the columns {', '.join(table)}, expected filename, type, t and a score"
        )
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}, row 2: found more values than the header has columns")
    _refuse(path, table, "filename", table["filename"].fillna("") == "", "a path")
    _refuse(path, table, "type", ~table["type"].isin(TYPES), "val, in or out")
    for column in score_columns(table):
        table[column] = _numbers(path, table, column)
    keys = [column for column in KEY_COLUMNS if column in table]
    for column in keys[1:]:
        table[column] = _numbers(path, table, column, whole=True).astype("int64")
    _refuse_duplicates(path, table, keys)
    return table


def _numbers(
    path: Path, table: pd.DataFrame, column: str, *, whole: bool = False
) -> NDArray[np.float64]:
    """A column as float64; UserError at the first value that is not finite, or not `whole`."""
    numbers = np.fromiter(map(_float, table[column]), np.float64, count=len(table))
    wrong = ~np.isfinite(numbers)
    if whole:
        wrong |= numbers != np.floor(numbers)
    _refuse(path, table, column, wrong, "a whole number" if whole else "a finite number")
    return numbers


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refuse(
    path: Path,
    table: pd.DataFrame,
    column: str,
    wrong: pd.Series[bool] | NDArray[np.bool_],
    expected: str,
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        found = table[column].iloc[row]
        raise UserError(f"{path}, row {row + 2}: {column} is '{found}', expected {expected}")


def _refuse_duplicates(path: Path, table: pd.DataFrame, keys: list[str]) -> None:
    again = table.duplicated(keys)
    if again.any():
        row = int(np.argmax(again))
        key = ", ".join(f"{column} {table[column].iloc[row]!s}" for column in keys)
        raise UserError(f"{path}, row {row + 2}: found {key} a second time, expected it once")


def encode(table: pd.DataFrame, *, header: bool = True) -> str:
    """The table as CSV; floats are written as Python's `repr` and read back to the bit."""
    columns = (_texts(table[column].tolist()) for column in table)
    names = [",".join(table.columns)] if header else []
    return "".join(f"{row}\n" for row in (*names, *map(",".join, zip(*columns, strict=True))))


def _texts(values: list[Any]) -> Iterable[str]:
    return (_quote(value) if isinstance(value, str) else repr(value) for value in values)


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a whole table, atomically."""
    with atomic_write(path) as file:
        file.write(encode(table))
