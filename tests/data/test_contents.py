"""The content of files: digested once, and never taken from a file that may have changed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from diffusion_ood.data import contents
from diffusion_ood.data.contents import SETTLED_NS, content_number, file_digests
from diffusion_ood.data.splits import Split, read_split, write_split
from diffusion_ood.errors import UserError


@pytest.fixture
def split(tmp_path: Path) -> Split:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"%d" % i)
    write_split(tmp_path / "A_test.csv", [f"{i}.png" for i in range(3)])
    return read_split(tmp_path / "A_test.csv")


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough at once."""
    monkeypatch.setattr(contents, "SETTLED_NS", -(10**12))


def sha(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]


def test_digests_are_those_of_the_bytes(split: Split, tmp_path: Path) -> None:
    expected = (sha(b"0"), sha(b"1"), sha(b"2"))
    assert file_digests(split, None) == expected
    assert file_digests(split, tmp_path) == expected
    assert not list(tmp_path.glob("*.json")), "files that have just changed are not trusted"


@pytest.mark.usefixtures("old")
def test_a_file_is_read_once(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = file_digests(split, tmp_path)
    read = []
    monkeypatch.setattr(contents, "sha256", lambda path: read.append(path.name) or sha(b"x"))
    assert file_digests(split, tmp_path) == first
    assert not read
    (tmp_path / "1.png").write_bytes(b"y")
    assert file_digests(split, tmp_path) == (first[0], sha(b"x"), first[2])
    assert read == ["1.png"]


@pytest.mark.usefixtures("old")
def test_another_file_of_equal_size_and_times_is_seen(split: Split, tmp_path: Path) -> None:
    file_digests(split, tmp_path)
    path, other = tmp_path / "1.png", tmp_path / "other"
    other.write_bytes(b"9")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    os.utime(other, ns=times)
    os.replace(other, path)
    assert path.stat().st_mtime_ns == times[1]
    assert file_digests(split, tmp_path)[1] == sha(b"9")


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"1.png": 3}', '{"1.png": [[], 0]}'])
def test_a_damaged_record_is_made_again(split: Split, tmp_path: Path, content: str) -> None:
    (tmp_path / "A_test.csv.contents.json").write_text(content)
    assert file_digests(split, tmp_path) == (sha(b"0"), sha(b"1"), sha(b"2"))


def test_a_missing_file_is_named_with_its_row(split: Split, tmp_path: Path) -> None:
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"A_test\.csv, row 3: .*1\.png"):
        file_digests(split, None)


def test_a_number_has_the_first_63_bits() -> None:
    assert content_number("f" * 32) == 2**63 - 1
    assert content_number("0" * 15 + "2" + "f" * 16) == 1


@pytest.mark.usefixtures("old")
def test_ten_thousand_unchanged_images_cost_less_than_a_second(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(10_000)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    write_split(tmp_path / "B.csv", names)
    split = read_split(tmp_path / "B.csv")
    first = file_digests(split, tmp_path)
    time.sleep(SETTLED_NS / 1e9)  # what is younger may change unseen, and is read again
    assert file_digests(split, tmp_path) == first
    begin = time.process_time()
    assert file_digests(split, tmp_path) == first
    assert time.process_time() - begin < 1
