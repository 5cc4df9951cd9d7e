"""Options as plain values, for JSON and checkpoints, and what a checkpoint says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diffusion_ood.errors import UserError

Options = TypeVar("Options")


def to_dict(options: Any) -> dict[str, Any]:  # noqa: ANN401 - any options dataclass
    """An options instance as plain values."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(options).items()
    }


def from_dict(cls: type[Options], stored: Mapping[str, Any]) -> Options:
    """An options instance from `to_dict` values; tuples come back as tuples."""
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return cls(**values)


def stored_options(cls: type[Options], content: Mapping[str, Any], path: Path) -> Options:
    """What a checkpoint says of an options class; options younger than it have their defaults.

    Raises:
        UserError: the checkpoint is of another kind of network.
    """
    found = content["options"].get(cls.__name__)
    if found is None:
        kinds = ", ".join(content["options"])
        raise UserError(f"{path}: found a checkpoint with {kinds}, expected {cls.__name__}")
    return from_dict(cls, found)


def refuse_contradiction(asked: object, stored: object, names: Iterable[str], path: Path) -> None:
    """Raise a `UserError` for the first option of `names` that is not what the checkpoint says.

    Args:
        asked, stored: two instances of one options class.
        names: of the options that have to agree.
        path: of the checkpoint.
    """
    found, expected = to_dict(asked), to_dict(stored)
    for name in names:
        if found[name] != expected[name]:
            raise UserError(
                f"`{name}`: found {found[name]}, but {path} was trained with {expected[name]}; "
                "leave it out, or use another `model_name`"
            )
