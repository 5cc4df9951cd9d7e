"""How an option is declared: a field of a frozen dataclass, and what `--help` says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


def option(
    help: str,
    *,
    default: Any = dataclasses.MISSING,  # noqa: ANN401 - any field
    choices: Iterable[str] | None = None,
    exists: bool = False,
) -> Any:  # noqa: ANN401 - any field
    """A dataclass field for an option; without a default it is required.

    Args:
        help: a sentence for `--help`; names of other options stand in backticks.
        default: the value where the option is not given.
        choices: the names that are allowed, such as a registry; they are read when a command line
            is, so that what was added to a registry is among them.
        exists: whether the path that is given has to exist.
    """
    metadata = {"help": help, "choices": choices, "exists": exists}
    return dataclasses.field(default=default, metadata=metadata)
