"""What torchrun, or a launcher like it, says to each of its processes by the environment."""

from __future__ import annotations

import os

from diffusion_ood.errors import UserError

NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LEAST = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": 1}
LAST_PORT = 65_535


def is_launched() -> bool:
    """Whether a launcher has started this process.

    Raises:
        UserError: the environment says so with a variable that is missing, or with nonsense.
    """
    if "LOCAL_RANK" not in os.environ:
        return False
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        how = "empty" if missing[0] in os.environ else "missing"
        raise UserError(
            f"{missing[0]} is {how} in the environment, expected a value, as from torchrun; start "
            "this with torchrun, or unset LOCAL_RANK"
        )
    found = {name: number(name) for name in LEAST if name in os.environ}
    above = {"RANK": found["WORLD_SIZE"] - 1, "MASTER_PORT": LAST_PORT}
    for name, most in above.items():
        if found[name] > most:
            raise UserError(
                f"{name} is {found[name]} in the environment, expected at most {most}; start this "
                "with torchrun, or unset LOCAL_RANK"
            )
    return True


def number(name: str, default: int | None = None) -> int:
    """A variable that counts something.

    Raises:
        UserError: it is no whole number of at least its least value.
    """
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal() or int(text) < LEAST[name]:
        raise UserError(
            f"{name} is {text!r} in the environment, expected a whole number of at least "
            f"{LEAST[name]}; start this with torchrun, or unset it"
        )
    return int(text)
