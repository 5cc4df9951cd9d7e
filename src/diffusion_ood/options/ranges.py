"""Refusing values outside their range, by the name of their flag."""

from __future__ import annotations

from diffusion_ood.errors import UserError


def positive(name: str, value: float) -> None:
    """Raise a `UserError` unless value > 0."""
    if not value > 0:
        raise UserError(f"--{name}: found {value}, expected more than 0")


def at_least(name: str, value: float, least: float) -> None:
    """Raise a `UserError` unless value >= least."""
    if value < least:
        raise UserError(f"--{name}: found {value}, expected at least {least}")
