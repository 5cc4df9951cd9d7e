"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.errors import UserError


def expanded(path: str | Path) -> Path:
    """A path whose `~` is a home folder.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: found no such home folder, expected one of a user") from None
