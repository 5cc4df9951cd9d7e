"""Files: whole or not there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from pathlib import Path

import pytest

from diffusion_ood.runtime.files import atomic_write, sha256, write_json


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds `old`."""
    path = tmp_path / "file.txt"
    path.write_text("old")
    return path


def write_halfway(path: Path) -> None:
    with atomic_write(path) as file:
        file.write("new, but not all of it")
        file.flush()
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_halfway(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_nobody_sees_the_new_text_before_it_is_complete(path: Path) -> None:
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_cannot_take_the_name_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "folder") as file:
        file.write("x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_text_is_utf_8_without_newline_translation(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a" / "b.csv") as file:
        file.write("ε\r\nx\n")
    assert (tmp_path / "a" / "b.csv").read_bytes() == "ε\r\nx\n".encode()


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "b", "wb") as file:
        file.write(b"\x00\r\n\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\r\n\xff"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "x") as file:
            file.write("x")
        assert os.umask(umask) == umask  # and it was not changed
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with atomic_write(path) as file:
        file.write("x")
    assert path.read_text() == "x"


def test_json_is_readable_and_ends_with_a_newline(path: Path) -> None:
    write_json(path, {"a": [1, None, 0.1]})
    assert json.loads(path.read_text()) == {"a": [1, None, 0.1]}
    assert path.read_text().endswith("}\n")


def test_json_refuses_what_json_has_no_word_for(path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    """The values are FIPS 180-2's own examples."""
    for content, expected in (
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ):
        (tmp_path / "x").write_bytes(content)
        assert sha256(tmp_path / "x") == expected


def test_sha256_reads_more_than_one_chunk(tmp_path: Path) -> None:
    content = bytes(1 << 20) + b"end"
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
