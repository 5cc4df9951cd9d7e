"""Checkpoints: what was saved comes back, and no file can run code or end in a traceback."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime import checkpoint, files
from diffusion_ood.runtime.checkpoint import load_checkpoint, restore_previous, save_checkpoint
from diffusion_ood.runtime.files import sha256


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole checkpoint."""
    path = tmp_path / "checkpoint.pth"
    save_checkpoint(path, {"w": torch.arange(5000.0), "epoch": 3, "shape": (1, 8, 8), "o": {}})
    return path


def test_tensors_and_plain_values_come_back(path: Path) -> None:
    content = load_checkpoint(path)
    assert torch.equal(content.pop("w"), torch.arange(5000.0))
    assert content.pop("digest") == sha256(path)
    assert content == {"format": 1, "epoch": 3, "shape": (1, 8, 8), "o": {}}


def test_saving_leaves_no_other_file(path: Path) -> None:
    assert {file.name for file in path.parent.iterdir()} == {path.name}


def test_a_failed_save_leaves_the_old_checkpoint(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(path, {"unpicklable": lambda: None})
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "created"
    torch.save({"format": 1, "w": Payload(target)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"evil\.pth"):
        load_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert target.exists()


def test_a_bare_pickle_with_a_payload_is_refused_and_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "created"
    path.write_bytes(pickle.dumps(Payload(target), protocol=2))
    with pytest.raises(UserError, match=r"evil\.pth"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 0.999])
def test_a_truncated_file_is_a_mistake_that_names_it(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"checkpoint\.pth"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(100)]
)
def test_a_file_of_another_kind_is_a_mistake_that_names_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pth: "):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{"format": 2}, {"w": 1}, [1], torch.zeros(2)])
def test_another_format_is_a_mistake_that_says_which_is_expected(
    path: Path, content: object
) -> None:
    torch.save(content, path)
    with pytest.raises(UserError, match="format 1"):
        load_checkpoint(path)


def test_a_missing_file_is_a_mistake_that_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pth: .*train_ddpm\.py"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(UserError, match=str(tmp_path)):
        load_checkpoint(tmp_path)


def test_one_changed_byte_is_found(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the midst of a tensor, which torch would read
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pth"):
        load_checkpoint(path)


def test_a_digest_of_an_earlier_version_is_not_left_beside_another_file(path: Path) -> None:
    beside = path.with_name("checkpoint.pth.sha256")
    beside.write_text(f"{sha256(path)}  checkpoint.pth\n")
    assert load_checkpoint(path)["epoch"] == 3
    save_checkpoint(path, {"epoch": 4})
    assert not beside.exists()


class Killed(BaseException):
    """Stands for a kill between two operations on the disk."""


def operations(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Let all operations that change names fail after so many."""
    left = iter(range(last))
    replace = os.replace

    def counted(*names: Any) -> None:
        if next(left, None) is None:
            raise Killed
        replace(*names)

    monkeypatch.setattr(checkpoint.os, "replace", counted)
    monkeypatch.setattr(files.os, "replace", counted)


def whole(path: Path, previous: Path) -> list[int]:
    """The epochs of the checkpoints that can be loaded, the last one first."""
    found = []
    for file in (path, previous):
        try:
            found.append(load_checkpoint(file)["epoch"])
        except UserError:
            continue
    return found


@pytest.mark.parametrize("last", range(4))
def test_a_kill_at_any_moment_leaves_the_newest_whole_checkpoint(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous = tmp_path / "checkpoint.pth", tmp_path / "previous.pth"
    for epoch in (1, 2):
        save_checkpoint(path, {"epoch": epoch}, previous)
    with monkeypatch.context() as patch:
        operations(patch, last)
        killed = last < 2
        try:
            save_checkpoint(path, {"epoch": 3}, previous)
            assert not killed
        except Killed:
            assert killed
    found = whole(path, previous)
    assert found[0] == (3 if last >= 2 else 2)
    save_checkpoint(path, {"epoch": 4}, previous)
    assert whole(path, previous)[0] == 4
    assert len(whole(path, previous)) == 2


@pytest.mark.parametrize("last", range(2))
def test_a_kill_while_the_previous_one_takes_its_place_loses_nothing(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous = tmp_path / "checkpoint.pth", tmp_path / "previous.pth"
    for epoch in (1, 2):
        save_checkpoint(path, {"epoch": epoch}, previous)
    os.truncate(path, 100)
    assert whole(path, previous) == [1]
    with monkeypatch.context() as patch:
        operations(patch, last)
        try:
            restore_previous(path, previous)
            assert last >= 1
        except Killed:
            assert last < 1
    assert whole(path, previous) == ([1] if last < 1 else [1, 1])
    os.truncate(path, 100)
    assert whole(path, previous) == [1]
