"""Which images belong together: the patient or scan that a file's name tells."""

from __future__ import annotations

import re

from diffusion_ood.data.places import Place
from diffusion_ood.errors import UserError


def group_name(name: str, pattern: str | None) -> str:
    """What a regular expression finds in a name: its first group, or else the whole match.

    Without one it is the image's scan: the volume of a slice, or else the image itself.

    Raises:
        UserError: no regular expression, or a name in which it finds nothing.
    """
    if pattern is None:
        return str(Place.of(name).whole)
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise UserError(
            f"`group_by`: found {pattern!r}, not a regular expression ({error})"
        ) from None
    group = found and (found[1] if found.re.groups else found[0])
    if not group:
        raise UserError(f"{name}: `group_by`={pattern} finds no group in it")
    return group
