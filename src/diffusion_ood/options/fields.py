"""How options are declared: the fields of a frozen dataclass, their bounds, and what `--help` says.

A value that is out of bounds is refused in one sentence that names the option.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_ood.errors import UserError

# Seeds that torch takes, with room to count on from them; read as `**SEED`.
SEED: dict[str, Any] = {"least": -(2**62), "most": 2**62}
MAX_FLOAT = 1e38  # of what float32 holds

# Of what takes memory or processes before anything is computed. Far above what is of use.
MAX_BATCH = 1_000_000
MAX_REPEATS = 1_000
MAX_WORKERS = 1_000

_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "above": ("more than", operator.gt),
    "least": ("at least", operator.ge),
    "below": ("less than", operator.lt),
    "most": ("at most", operator.le),
}


def option(
    help: str,
    default: Any = dataclasses.MISSING,  # noqa: ANN401 - any field
    *,
    choices: Iterable[str] | None = None,
    exists: bool = False,
    folder_name: bool = False,
    positional: bool = False,
    absent: Any = None,  # noqa: ANN401 - any field
    **bounds: float,
) -> Any:  # noqa: ANN401 - any field
    """A dataclass field for an option; without a default it is required.

    Args:
        help: a sentence for `--help`; names of other options stand in backticks.
        default: the value where the option is not given.
        choices: the names that are allowed, such as a registry; they are read when a command line
            is, so that what was added to a registry is among them.
        exists: whether the path that is given has to exist.
        folder_name: whether the text has to be the name of one folder.
        positional: whether its value stands for itself on a command line, without a flag.
        absent: the value in files that are older than the option, if that is not the default.
        bounds: of a number: `above` or `least`, `below` or `most`.
    """
    assert bounds.keys() <= _BOUNDS.keys(), "a bound that is not known would not be checked"
    checks = {"exists": exists, "folder_name": folder_name, "bounds": bounds}
    checks |= {"positional": positional, "absent": absent}
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, **checks})


@dataclass(frozen=True)
class OptionGroup:
    """The base of all options classes, which refuses what is out of bounds.

    Raises:
        UserError: a number outside its bounds, or a text that is not the name of one folder.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if value is None:
                continue
            if field.metadata["bounds"]:
                refuse_outside(name, value, **field.metadata["bounds"])
            if field.metadata["folder_name"] and (value in ("", "..") or Path(value).name != value):
                raise UserError(f"`{name}`: found {value!r}, expected the name of one folder")


def refuse_outside(name: str, value: float, why: str = "", **bounds: float) -> None:
    """Raise a `UserError` for a number that is not finite or outside its bounds, as of `option`.

    The sentence ends with `why`, what the bounds come from.
    """
    within = all(_BOUNDS[kind][1](value, bound) for kind, bound in bounds.items())
    if not (within and -math.inf < value < math.inf):
        expected = " and ".join(f"{_BOUNDS[kind][0]} {bound}" for kind, bound in bounds.items())
        raise UserError(f"`{name}`: found {value}, expected {expected}{why and f', {why}'}")


def refuse_no_pattern(text: str) -> None:
    """Raise a `UserError` for a `group_by` that is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise UserError(f"`group_by`: found {text!r}; {error}") from None
