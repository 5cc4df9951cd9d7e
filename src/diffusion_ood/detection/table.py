"""The score table: a CSV file with a row for each image, start point and repeat.

The columns are `filename,type,t,mse,perceptual_difference` and any further scores to the right. A
row's key is (filename, t) or, where the column is there, (filename, t, repeat); `filename` is the
image path exactly as the split has it. Higher scores are more out of distribution.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from diffusion_ood.calibration.base import KEY_COLUMNS, score_columns
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write

TYPES = ("val", "in", "out", "shifted")
REPEATED = "repeated"
"""The attribute of a table that counts the rows that were left out as equal to an earlier one."""

_NEEDS_QUOTES = re.compile(r'[,"\r\n]')


def read_table(path: Path) -> pd.DataFrame:
    """Read a score table: filename and type as text, t and repeat as int64, scores as float64.

    Rows are counted as a spreadsheet counts them: the header is row 1.

    Raises:
        UserError: a missing or empty file, a missing column, a t that is not a whole number, a
            score that is not finite, an unknown type, or a key that occurs with other values again.
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
    scores, keys = score_columns(table), [key for key in KEY_COLUMNS if key in table]
    if not {"filename", "type", "t"} <= set(table) or not scores:
        raise UserError(
            f"{path}: found the columns {', '.join(table)}, expected filename, type, t and a score"
        )
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}, row 2: found more values than the header has columns")
    _refuse(path, table["filename"], table["filename"].fillna("") == "", "a path")
    _refuse(path, table["type"], ~table["type"].isin(TYPES), "one of " + ", ".join(TYPES))
    for column in (*scores, *keys[1:]):
        numbers = np.fromiter(map(_float, table[column]), np.float64, count=len(table))
        whole, wrong = column in keys, ~np.isfinite(numbers)
        if whole:
            wrong |= numbers != np.floor(numbers)
        _refuse(path, table[column], wrong, "a whole number" if whole else "a finite number")
        table[column] = numbers.astype("int64") if whole else numbers
    # The sampler of the original code fills up its last batch with images that it had before.
    whole = table.drop_duplicates(ignore_index=True)
    whole.attrs[REPEATED] = len(table) - len(whole)
    again = table.duplicated(keys) & ~table.duplicated()
    if again.any():
        row = int(np.argmax(again))
        key = ", ".join(f"{column} {table[column].iloc[row]!s}" for column in keys)
        raise UserError(f"{path}, row {row + 2}: found {key} a second time, expected it once")
    return whole


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refuse(path: Path, column: pd.Series[Any], wrong: ArrayLike, expected: str) -> None:
    """Raise UserError at the first row where `wrong` is true."""
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}, row {row + 2}: {column.name} is '{column.iloc[row]}', expected {expected}"
        )


def encode(table: pd.DataFrame, *, header: bool = True) -> str:
    """The table as CSV; floats are written as Python's `repr` and read back to the bit.

    Cells of None are empty.
    """
    columns = (map(_cell, table[column].tolist()) for column in table)
    names = [",".join(table.columns)] if header else []
    return "".join(f"{row}\n" for row in (*names, *map(",".join, zip(*columns, strict=True))))


def _cell(value: Any) -> str:  # noqa: ANN401 - whatever a table holds
    if not isinstance(value, str):
        return "" if value is None else repr(value)
    return '"' + value.replace('"', '""') + '"' if _NEEDS_QUOTES.search(value) else value


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a whole table, atomically."""
    with atomic_write(path) as file:
        file.write(encode(table))
