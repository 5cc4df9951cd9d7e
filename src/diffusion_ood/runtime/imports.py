"""Importing libraries without the notices that no user can act on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

_NOTICES = (
    (FutureWarning, r"`torch\.jit\.interface` is deprecated"),  # MONAI
    (FutureWarning, r"`torch\.cuda\.amp\.autocast"),  # monai-generative
    (UserWarning, r"The parameter 'pretrained' is deprecated"),  # lpips
    (UserWarning, r"Arguments other than a weight enum or `None`"),  # lpips
)


@contextlib.contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """Hide the deprecation notices that MONAI and lpips themselves set off, and nothing else."""
    with warnings.catch_warnings():
        for category, message in _NOTICES:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
