"""Options as plain values, for JSON and checkpoints, and what a checkpoint says of them."""

from __future__ import annotations

import dataclasses
import types
import typing
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


def stored_entry(name: str, content: Mapping[str, Any], path: Path) -> Any:  # noqa: ANN401
    """An entry of a checkpoint; UserError where it lacks it."""
    if name not in content:
        raise UserError(f"{path}: found a checkpoint without {name}, expected a whole one")
    return content[name]


def stored_shape(content: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    """The image shape `(C, *S)` of a checkpoint; UserError where it is none."""
    found = stored_entry("image_shape", content, path)
    if not (_fits(found, tuple[int, ...]) and len(found) in (3, 4) and min(found) > 0):
        raise UserError(
            f"{path}: found image_shape {found!r}, expected channels and two or three sides"
        )
    return tuple(found)


def stored_classes(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The names of a checkpoint's classes, none of a model without; UserError where they are none.

    A model without classes says None, or nothing.
    """
    found = content.get("classes")
    found = () if found is None else found
    if not _fits(found, tuple[str, ...]):
        raise UserError(f"{path}: found classes {found!r}, expected their names")
    return tuple(found)


def stored_options(cls: type[Options], content: Mapping[str, Any], path: Path) -> Options:
    """What a checkpoint says of an options class.

    Options younger than it are as their fields say, `absent` or their defaults.

    Raises:
        UserError: the checkpoint is of another kind of network, or of a later version.
    """
    groups = content.get("options")
    groups = groups if isinstance(groups, Mapping) else {}
    found = groups.get(cls.__name__)
    if not isinstance(found, Mapping):
        kinds = ", ".join(k for k, v in groups.items() if isinstance(v, Mapping)) or "no options"
        raise UserError(f"{path}: found a checkpoint with {kinds}, expected {cls.__name__}")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type] # a dataclass
    choices = {field.name: field.metadata["choices"] for field in fields}
    absent = {field.name: field.metadata["absent"] for field in fields}
    if unknown := sorted(map(str, found.keys() - choices.keys())):
        raise UserError(
            f"{path}: found the option {unknown[0]}, which this version does not know, expected a "
            f"checkpoint of this version or an earlier one, not by {content.get('versions')}"
        )
    hints = typing.get_type_hints(cls)
    for name, value in found.items():
        hint = hints[name]
        if not _fits(value, hint):
            expected = hint.__name__ if isinstance(hint, type) else str(hint)
            raise UserError(f"{path}: found {name} {value!r}, expected {expected}")
        if choices[name] and isinstance(value, str) and value not in choices[name]:
            expected = ", ".join(choices[name])
            raise UserError(f"{path}: found {name} {value!r}, expected one of {expected}")
    try:
        return from_dict(cls, {k: v for k, v in absent.items() if v is not None} | {**found})
    except UserError as error:  # of a later version, perhaps
        raise UserError(f"{path}: {error}") from None


def _fits(value: Any, hint: Any) -> bool:  # noqa: ANN401 - any value of a file, any annotation
    """Whether a plain value is one of an annotated type."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Literal:
        return value in parts
    if kind in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in parts)
    if kind is tuple:
        several = isinstance(value, (list, tuple))
        element = parts[0] if len(set(parts) - {...}) == 1 else None
        return several and (element is None or all(_fits(part, element) for part in value))
    if hint is Path:
        return isinstance(value, str)
    if hint is bool:  # whoever calls the library may have written 0 or 1
        return isinstance(value, int) and value in (0, 1)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


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
                "give that, or use another `model_name`"
            )
