"""Checkpoints: whole or not there, known by their digest, and never able to run code.

Beside a checkpoint lies its SHA-256, `NAME.sha256`, in the form of the program sha256sum. While
the checkpoint is being replaced that file has a second line, so that there is no moment at which
a whole checkpoint and its digest disagree.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write, sha256, sha256_of
from diffusion_ood.runtime.run_directory import require_checkpoint

FORMAT = 1

_DIGEST = re.compile(r"^([0-9a-f]{64})  .+$", re.MULTILINE)


def save_checkpoint(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors and plain values, atomically.

    Args:
        path: where to.
        content: what.
        previous: the name that a checkpoint at `path` gets, which would be lost otherwise.
    """
    replaced = _digests_or_own(path)
    with atomic_write(path, "wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save({"format": FORMAT, **content}, cast("IO[bytes]", hashing))
        except RuntimeError:  # torch's own, about the file that it could not write
            if hashing.error is None:
                raise
            raise hashing.error from None
        file.flush()
        os.fsync(file.fileno())
        digest = hashing.digest.hexdigest()
        _write_digests(path, [digest, *replaced])
        if previous is not None and path.exists():
            _move(path, previous, replaced)
    _write_digests(path, [digest])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU, and under `digest` its SHA-256.

    Raises:
        UserError: the file is missing, damaged, of another kind, or asks to run code.
    """
    require_checkpoint(path)
    digests = _digests(path)
    try:
        with open(path, "rb") as file:  # once, since a training may replace it meanwhile
            digest = sha256_of(file)
            if digests and digest not in digests:
                raise UserError(
                    f"{path}: found other bytes than {_beside(path).name} says, expected those "
                    "that were saved; if it was exchanged on purpose, delete that file"
                )
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: expected a checkpoint of tensors and plain values alone"
        ) from error
    except Exception as error:  # whatever torch.load meets in a file that is something else
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: expected a checkpoint of train_ddpm.py; {reason}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: expected a checkpoint of train_ddpm.py, format {FORMAT}")
    return {**content, "digest": digest}


def restore_previous(path: Path, previous: Path) -> None:
    """Let a copy of `previous` take the place of a torn or missing checkpoint at `path`.

    It stays where it is as well: the copy may be torn in its turn before there is another save.
    """
    digests = _digests_or_own(previous)
    _write_digests(path, [*digests, *_digests(path)])
    with atomic_write(path, "wb") as file, open(previous, "rb") as source:
        shutil.copyfileobj(source, file)
    _write_digests(path, digests)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and its digest, as far as they exist."""
    path.unlink(missing_ok=True)
    _beside(path).unlink(missing_ok=True)


class _Hashing:
    """A file that is written from its beginning to its end, and the digest of what went in."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _move(path: Path, previous: Path, digests: Sequence[str]) -> None:
    _write_digests(previous, [*digests, *_digests(previous)])
    os.replace(path, previous)
    _write_digests(previous, digests)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    """The digests that a checkpoint may have; none when no whole one lies beside it."""
    try:
        text = _beside(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return _DIGEST.findall(text)


def _digests_or_own(path: Path) -> list[str]:
    """The digests beside a checkpoint, else its own, else none."""
    return _digests(path) or ([sha256(path)] if path.exists() else [])


def _write_digests(path: Path, digests: Sequence[str]) -> None:
    with atomic_write(_beside(path)) as file:
        file.writelines(f"{digest}  {path.name}\n" for digest in digests)
