"""Numbers and settings in sentences."""

from __future__ import annotations

import math
import re

SHOWN_DIGITS = 12  # of a digest


def counted(number: int, noun: str) -> str:
    """Show 1 and "image" as "1 image", 2 as "2 images"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in two digits or three and the unit that fits: 0.0012 is "1.2 ms", 720 "12 min"."""
    units = [(1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")]
    units += [(48 * 3600, 3600, "h"), (math.inf, 24 * 3600, "days")]
    unit, name = next((unit, name) for most, unit, name in units if seconds < most)
    number = seconds / unit
    return f"{number:.{'2g' if number < 10 else '0f'}} {name}"


def shown(value: object) -> str:
    """A setting in words: None is "not set", of a digest its first digits are shown."""
    if value is None:
        return "not set"
    return re.sub(rf"\b([0-9a-f]{{{SHOWN_DIGITS}}})[0-9a-f]{{20,}}\b", r"\1…", repr(value))
