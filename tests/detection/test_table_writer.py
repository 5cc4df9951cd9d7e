"""A growing table loses no finished image and doubles none, wherever its process dies."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from diffusion_ood.detection.table import read_table, write_table
from diffusion_ood.detection.table_writer import (
    TableWriter,
    merge_parts,
    read_sidecar,
)
from diffusion_ood.errors import UserError

PRINT = {"checkpoint": "abc", "seed": 2}
T = (10, 20, 30)


def rows(*filenames: str, offset: float = 0.0) -> pd.DataFrame:
    """Three start points an image; the score tells image and start point."""
    return pd.DataFrame(
        [(f, "in", t, offset + len(f) + t / 8) for f in filenames for t in T],
        columns=["filename", "type", "t", "mse"],
    )


def writer(path: Path, rank: int = 0, **keywords: object) -> TableWriter:
    options = {"fingerprint": PRINT, "rows_per_image": 3, **keywords}
    return TableWriter(path, rank=rank, **options)


def fill(path: Path, *filenames: str, rank: int = 0) -> None:
    with writer(path, rank) as table:
        for filename in filenames:
            table.append(rows(filename))


def finished(path: Path, **keywords: object) -> frozenset[str]:
    with writer(path, **keywords) as table:
        return table.finished


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ood" / "results_in.csv"


def parts(path: Path) -> list[str]:
    return sorted(file.name for file in (path.parent / "parts").iterdir())


def test_two_ranks_merge_in_the_order_of_the_split(path: Path) -> None:
    fill(path, "b", "d", rank=0)
    fill(path, "c", "a,\n", rank=1)
    assert merge_parts(path, ["a,\n", "b", "c", "d"], 3) == 0
    pd.testing.assert_frame_equal(
        read_table(path), rows("a,\n", "b", "c", "d"), check_dtype=False, check_exact=True
    )
    assert parts(path) == []
    assert finished(path) == {"a,\n", "b", "c", "d"}


def test_rows_are_ordered_by_t_and_repeat(path: Path) -> None:
    scrambled = pd.DataFrame(
        [("a", "in", t, 100.0 * t + r, r) for r in (1, 0) for t in (30, 10)],
        columns=["filename", "type", "t", "mse", "repeat"],
    )
    with writer(path, rows_per_image=4) as table:
        table.append(scrambled)
    merge_parts(path, ["a"], 4)
    assert read_table(path)["mse"].tolist() == [1000.0, 1001.0, 3000.0, 3001.0]


def test_a_run_goes_on_with_another_number_of_processes(path: Path) -> None:
    fill(path, "a", rank=0)
    fill(path, "b", rank=3)
    with writer(path) as table:
        assert table.finished == {"a", "b"}
        table.append(rows("c"))
    merge_parts(path, ["a", "b", "c"], 3)
    assert read_table(path)["filename"].unique().tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("last", ['x,"y\n', "plain"])
def test_a_part_cut_at_any_byte_of_its_last_image_loses_that_image_alone(
    path: Path, last: str
) -> None:
    fill(path, "first")
    part = path.parent / "parts" / "results_in.0.csv"
    start = part.stat().st_size
    with writer(path) as table:
        table.append(rows("between", last))
    whole = part.read_bytes()
    first_row_of_last = whole.index(b'"x,""y' if "x" in last else b"plain,")
    for end in range(start, len(whole)):
        part.write_bytes(whole[:end])
        expected = {"first"} | ({"between"} if end >= first_row_of_last else set())
        with writer(path) as table:
            assert table.finished == expected
            table.append(rows(*sorted({"between", last} - expected)))
        merge_parts(path, ["first", "between", last], 3)
        pd.testing.assert_frame_equal(
            read_table(path), rows("first", "between", last), check_dtype=False
        )
        path.unlink()


def test_a_part_cut_inside_its_header_starts_anew(path: Path) -> None:
    fill(path, "a")
    part = path.parent / "parts" / "results_in.0.csv"
    whole = part.read_bytes()
    for end in range(whole.index(b"\n") + 2):
        part.write_bytes(whole[:end])
        fill(path, "a")
        assert part.read_bytes() == whole


def test_another_ranks_torn_part_is_read_but_left_alone(path: Path) -> None:
    fill(path, "a", "b", rank=1)
    part = path.parent / "parts" / "results_in.1.csv"
    part.write_bytes(torn := part.read_bytes()[:-1])
    with writer(path, rank=0) as table:
        assert table.finished == {"a"}
    assert part.read_bytes() == torn


class Killed(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("asked", [["c", "a"], ["a", "b", "c", "d", "e"]])
def test_a_merge_killed_between_any_two_operations_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, after: int, asked: list[str]
) -> None:
    images = ["a", "b", "c", "d", "e"]
    fill(path, "a", "b")
    merge_parts(path, ["a", "b"], 3)  # a finished table
    fill(path, "c", "d", rank=0)
    fill(path, "e", rank=1)
    remaining = [after]

    def counted(operation):
        def run(*args, **keywords):
            if remaining[0] == 0:
                raise Killed
            remaining[0] -= 1
            return operation(*args, **keywords)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        operations = 3 if asked == images else 4  # spare part, table, two parts
        with pytest.raises(Killed) if after < operations else contextlib.nullcontext():
            merge_parts(path, asked, 3)

    with writer(path) as table:
        assert table.finished == set(images)
    for wanted in (asked, images):
        assert merge_parts(path, wanted, 3) == len(images) - len(wanted)
        pd.testing.assert_frame_equal(read_table(path), rows(*wanted), check_dtype=False)
    assert parts(path) == []


def test_images_that_were_not_asked_for_are_kept_aside(path: Path) -> None:
    fill(path, "a", "b", "c")
    assert merge_parts(path, ["a", "b", "c"], 3) == 0
    assert merge_parts(path, ["b"], 3) == 2
    assert read_table(path)["filename"].unique().tolist() == ["b"]
    assert parts(path) == ["results_in.spare.csv"]
    assert finished(path) == {"a", "b", "c"}
    assert merge_parts(path, ["c", "b"], 3) == 1
    assert read_table(path)["filename"].unique().tolist() == ["c", "b"]


def test_a_missing_image_stops_the_merge_and_keeps_the_parts(path: Path) -> None:
    fill(path, "a")
    with pytest.raises(UserError, match=r"2 of 3 .* 'b'"):
        merge_parts(path, ["a", "b", "c"], 3)
    assert parts(path) == ["results_in.0.csv"]
    assert not path.exists()


def test_an_image_of_two_processes_is_an_error(path: Path) -> None:
    fill(path, "a")
    shutil.copy(
        path.parent / "parts" / "results_in.0.csv", path.parent / "parts" / "results_in.1.csv"
    )
    with pytest.raises(UserError, match="'a'"):
        merge_parts(path, ["a"], 3)


def test_an_image_twice_in_the_split_is_an_error(path: Path) -> None:
    fill(path, "a", "b")
    with pytest.raises(UserError, match="'b'"):
        merge_parts(path, ["a", "b", "b"], 3)


def test_images_with_different_start_points_are_an_error(path: Path) -> None:
    with writer(path) as table:
        table.append(rows("a"))
        table.append(rows("b").assign(t=[10, 20, 40]))
    with pytest.raises(UserError, match=r"4 .* expected 3"):
        merge_parts(path, ["a", "b"], 3)


def test_another_fingerprint_is_refused_and_the_key_named(path: Path) -> None:
    fill(path, "a")
    with pytest.raises(UserError, match=r"results_in\.json: .*seed 2, expected 3"):
        writer(path, fingerprint={**PRINT, "seed": 3})
    learned = "0123456789ab" * 4
    with pytest.raises(UserError, match="learned not set, expected '0123456789ab…'"):
        writer(path, fingerprint={**PRINT, "learned": learned})
    with pytest.raises(UserError, match="rows_per_image 3, expected 4"):
        writer(path, rows_per_image=4)
    merge_parts(path, ["a"], 3)
    with pytest.raises(UserError, match="sampler not set, expected 'ddim'"):
        writer(path, fingerprint={**PRINT, "sampler": "ddim"})


def test_a_fingerprint_without_rows_may_change(path: Path) -> None:
    writer(path).close()
    writer(path, fingerprint={"seed": (3, 4)}, facts={"native_size": [[28, 28]]}).close()
    assert read_sidecar(path) == {
        "fingerprint": {"seed": [3, 4], "rows_per_image": 3},
        "facts": {"native_size": [[28, 28]]},
    }


def test_rows_without_a_sidecar_are_refused(path: Path) -> None:
    write_table(path, rows("a"))
    with pytest.raises(UserError, match=r"results_in\.json"):
        writer(path)


def test_a_damaged_sidecar_is_refused(path: Path) -> None:
    fill(path, "a")
    path.with_suffix(".json").write_text('{"fingerprint": 1')
    with pytest.raises(UserError, match=r"results_in\.json"):
        writer(path)


def test_a_table_leaves_its_neighbours_alone(path: Path) -> None:
    neighbour = path.with_name("results_in.b.csv")
    fill(neighbour, "x")
    fill(path, "a")
    assert merge_parts(path, ["a"], 3) == 0
    path.unlink()
    assert merge_parts(neighbour, ["x"], 3) == 0
    assert read_table(neighbour)["filename"].unique().tolist() == ["x"]


def test_incomplete_images_other_columns_and_nan_are_refused(path: Path) -> None:
    with writer(path) as table:
        with pytest.raises(ValueError, match="3 rows"):
            table.append(rows("a").iloc[:2])
        with pytest.raises(UserError, match=r"a, t = 20: .*mse"):
            table.append(rows("a").assign(mse=[1, float("nan"), 2]))
        table.append(rows("a"))
    with writer(path) as table, pytest.raises(ValueError, match="columns"):
        table.append(rows("b").assign(ssim=1.0))
    assert finished(path) == {"a"}
