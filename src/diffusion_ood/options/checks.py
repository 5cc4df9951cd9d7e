"""Refusals that several options share: one sentence that names the flag."""

from __future__ import annotations

import math
from pathlib import Path

from diffusion_ood.errors import UserError

MAX_SEED = 2**62

# Of what takes memory or processes before anything is computed. Far above what is of use.
MAX_BATCH = 1_000_000
MAX_REPEATS = 1_000
MAX_SAMPLES = 1_000_000
MAX_RESAMPLES = 100_000
MAX_WORKERS = 1_000

MAX_FLOAT = 1e38  # of what float32 holds


def folder_name(flag: str, name: str) -> None:
    """Refuse what is not the name of one folder."""
    if name in ("", "..") or Path(name).name != name:
        raise UserError(f"`{flag}`: found {name!r}, expected the name of one folder")


def share(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0 < value < 1:
        raise UserError(f"`{name}`: found {value}, expected a share between 0 and 1")


def positive(name: str, value: float) -> None:
    """Refuse what is not a finite number more than 0."""
    if not 0 < value < math.inf:
        raise UserError(f"`{name}`: found {value}, expected more than 0")


def count(name: str, value: int, most: int) -> None:
    """Refuse what is not between 1 and `most`."""
    positive(name, value)
    at_most(name, value, most)


def batch_bound(value: int | None) -> None:
    """Refuse a bound on the rows of a network call that is not between 1 and `MAX_BATCH`."""
    if value is not None:
        count("max_batch", value, MAX_BATCH)


def at_least(name: str, value: float, least: float) -> None:
    """Refuse what is not a finite number of `least` or more."""
    if not least <= value < math.inf:
        raise UserError(f"`{name}`: found {value}, expected at least {least}")


def at_most(name: str, value: float, most: float) -> None:
    """Refuse what is more than `most`."""
    if value > most:
        raise UserError(f"`{name}`: found {value}, expected at most {most}")


def any_seed(seed: int) -> None:
    """Refuse a seed that is too large for torch, with room to count on from it."""
    if abs(seed) > MAX_SEED:
        raise UserError(f"`seed`: found {seed}, expected at most {MAX_SEED}")
