"""The score table's format: what is read is what was written, and mistakes are named by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.calibration.base import score_columns
from diffusion_ood.detection.table import read_table, write_table
from diffusion_ood.errors import UserError

HEADER = "filename,type,t,mse,perceptual_difference\n"
NASTY = [
    "plain.png",
    "a,b.png",
    'the "best".png',
    "two\nlines.png",
    "carriage\rreturn.png",
    "both\r\n.png",
    " leading and trailing ",
    "NA",
    "nan",
    "007",
    "#.png",
    "'single'.png",
    "Ünïcødé 図.png",
    '"',
    "1e5",
]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_nasty_filenames_and_all_bits_of_the_scores_survive_a_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "filename": NASTY,
            "type": "in",
            "t": range(len(NASTY)),
            "mse": rng.lognormal(0, 30, len(NASTY)),
            "perceptual_difference": rng.random(len(NASTY), dtype=np.float32),
        }
    )
    write_table(tmp_path / "t.csv", table)
    found = read_table(tmp_path / "t.csv")
    assert found["filename"].tolist() == NASTY
    assert found["t"].tolist() == list(range(len(NASTY)))
    assert found["mse"].tolist() == table["mse"].tolist()
    as_float32 = found["perceptual_difference"].to_numpy().astype(np.float32)
    assert as_float32.tolist() == table["perceptual_difference"].to_numpy().tolist()


def test_scores_are_all_columns_but_the_key_and_the_type(tmp_path: Path) -> None:
    text = "filename,type,t,mse,repeat,ssim\na,val,10,1,0,2\na,val,10,3,1,4\n"
    table = read_table(write(tmp_path / "t.csv", text))
    assert score_columns(table) == ["mse", "ssim"]
    assert table["repeat"].tolist() == [0, 1]
    assert table["mse"].tolist() == [1.0, 3.0]


def test_the_row_numbers_that_pandas_writes_are_no_score(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", ",filename,type,t,mse\n0,a,val,10,1.5\n"))
    assert score_columns(table) == ["mse"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "no rows"),
        ("filename,t,mse\na,1,2\n", "found the columns filename, t, mse, expected"),
        ("filename,type,t\na,in,1\n", "found the columns filename, type, t, expected"),
        (HEADER + "a,in,1,0.5,x\n", "row 2: perceptual_difference is 'x'"),
        (HEADER + "a,in,1,1,1\nb,in,1,nan,1\n", "row 3: mse is 'nan'"),
        (HEADER + "a,in,1,1,1\nb,in,1,-inf,1\n", "row 3: mse is '-inf'"),
        (HEADER + "a,in,1,1,1\nb,in,1,,1\n", "row 3: mse is ''"),
        (HEADER + "a,in,1,True,1\n", "row 2: mse is 'True'"),
        (HEADER + "a,in,1,1,1\nb,in,2.5,1,1\n", "row 3: t is '2.5'"),
        (HEADER + "a,in,ten,1,1\n", "row 2: t is 'ten'"),
        (HEADER + "a,test,1,1,1\n", "row 2: type is 'test'"),
        (HEADER + ",in,1,1,1\n", "row 2: filename is ''"),
        (HEADER + "a,in,1,1,1\n\nb,in,1,1,1\n", "row 3: filename is"),
        (HEADER + "a,in,1,1\n", "row 2: perceptual_difference is ''"),
        (HEADER + "a,in,1,1,1,1\n", "row 2: "),
        (HEADER + "a,in,1,1,1\nb,in,1,1,1,1\n", "line 3"),
        (HEADER + "a,in,1,1,1\na,in,2,1,1\na,in,1,2,2\n", "row 4: .*filename a, t 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_table(write(tmp_path / "t.csv", text))
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv: "):
        read_table(tmp_path / "nowhere.csv")
