"""Refusals that several options share: one sentence that names the flag."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.errors import UserError


def folder_name(flag: str, name: str) -> None:
    """Refuse what is not the name of one folder."""
    if name in ("", "..") or Path(name).name != name:
        raise UserError(f"--{flag}: found {name!r}, expected the name of one folder")


def share(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0 < value < 1:
        raise UserError(f"--{name}: found {value}, expected a share between 0 and 1")


def positive(name: str, value: float) -> None:
    """Refuse what is not more than 0."""
    if not value > 0:
        raise UserError(f"--{name}: found {value}, expected more than 0")


def at_least(name: str, value: float, least: float) -> None:
    """Refuse what is less than `least`."""
    if value < least:
        raise UserError(f"--{name}: found {value}, expected at least {least}")
