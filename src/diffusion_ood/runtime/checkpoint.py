"""Checkpoints: whole or not there, and never able to run code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    with atomic_write(path, "wb") as file:
        torch.save({"format": FORMAT, **content}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Raises:
        UserError: the file is missing, damaged, of another kind, or asks to run code.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: found no checkpoint there; train_ddpm.py writes it") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: expected a checkpoint of tensors and plain values alone"
        ) from error
    except Exception as error:  # whatever torch.load meets in a file that is something else
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: expected a checkpoint of train_ddpm.py; {reason}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: expected a checkpoint of train_ddpm.py, format {FORMAT}")
    return content
