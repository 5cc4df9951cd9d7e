"""Numbers and settings in sentences."""

from __future__ import annotations

import re

SHOWN_DIGITS = 12  # of a digest


def counted(number: int, noun: str) -> str:
    """Show 1 and "image" as "1 image", 2 as "2 images"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown(value: object) -> str:
    """A setting in words: None is "not set", of a digest its first digits are shown."""
    if value is None:
        return "not set"
    return re.sub(rf"\b([0-9a-f]{{{SHOWN_DIGITS}}})[0-9a-f]{{20,}}\b", r"\1…", repr(value))
