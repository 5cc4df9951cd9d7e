"""Refusals that several options share: one sentence that names the flag."""

from __future__ import annotations

import math
from pathlib import Path

from diffusion_ood.errors import UserError

MAX_SEED = 2**62


def folder_name(flag: str, name: str) -> None:
    """Refuse what is not the name of one folder."""
    if name in ("", "..") or Path(name).name != name:
        raise UserError(f"--{flag}: found {name!r}, expected the name of one folder")


def share(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0 < value < 1:
        raise UserError(f"--{name}: found {value}, expected a share between 0 and 1")


def positive(name: str, value: float) -> None:
    """Refuse what is not a finite number more than 0."""
    if not 0 < value < math.inf:
        raise UserError(f"--{name}: found {value}, expected more than 0")


def at_least(name: str, value: float, least: float) -> None:
    """Refuse what is not a finite number of `least` or more."""
    if not least <= value < math.inf:
        raise UserError(f"--{name}: found {value}, expected at least {least}")


def at_most(name: str, value: float, most: float) -> None:
    """Refuse what is more than `most`."""
    if value > most:
        raise UserError(f"--{name}: found {value}, expected at most {most}")


def any_seed(seed: int) -> None:
    """Refuse a seed that is too large for torch, with room to count on from it."""
    if abs(seed) > MAX_SEED:
        raise UserError(f"--seed: found {seed}, expected at most {MAX_SEED}")
