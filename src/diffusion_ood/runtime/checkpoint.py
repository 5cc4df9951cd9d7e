"""Checkpoints: whole or not there, and never able to run code.

A checkpoint is the ZIP archive that torch writes. Its checksums, which torch does not look at when
it loads, tell a torn or changed file from a whole one.
"""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write, sha256_of
from diffusion_ood.runtime.run_directory import require_checkpoint

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors and plain values, atomically.

    A checkpoint at `path`, which would be lost otherwise, gets the name `previous`.
    """
    with atomic_write(path, "wb") as file:
        try:
            torch.save({"format": FORMAT, **content}, file)
        except RuntimeError as error:  # torch's own, which hides that of a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)  # of an earlier version's


def load_checkpoint(path: Path, kind: str = "a checkpoint of train_ddpm.py") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU, and under `digest` the file's SHA-256.

    Raises:
        UserError: the file is missing, damaged, of another kind than is expected, or asks to run
            code.
    """
    require_checkpoint(path)
    try:
        with open(path, "rb") as file:  # once, since a training may replace it meanwhile
            digest = sha256_of(file)
            with zipfile.ZipFile(file) as archive:
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"{damaged} is damaged")
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: expected {kind}, of tensors and plain values alone") from error
    except Exception as error:  # whatever is met in a file that is something else
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: expected {kind}; {reason}") from error
    if isinstance(content, dict) and "model_state_dict" in content:
        raise AncestorCheckpoint(path, {**content, "digest": digest})
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise UserError(f"{path}: found format {found}, expected a checkpoint of format {FORMAT}")
    return {**content, "digest": digest}


class AncestorCheckpoint(UserError):
    """A checkpoint of the original ddpm-ood code: weights, and no word about their network."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        super().__init__(
            f"{path}: found a checkpoint of the original ddpm-ood, expected one of train_ddpm.py; "
            "reconstruct.py scores with it, given the options that it was trained with"
        )
        self.path, self.content = path, content


def restore_previous(path: Path, previous: Path) -> None:
    """Let a copy of `previous` take the place of a torn or missing checkpoint at `path`.

    It stays where it is as well: the copy may be torn in its turn before there is another save.
    """
    with atomic_write(path, "wb") as file, open(previous, "rb") as source:
        shutil.copyfileobj(source, file)
