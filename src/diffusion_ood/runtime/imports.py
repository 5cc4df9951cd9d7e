"""Importing libraries: without the notices that no user can act on, and of extras."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

from diffusion_ood.errors import UserError

_NOTICES = (
    (FutureWarning, r"`torch\.jit\.interface` is deprecated"),  # MONAI
    (FutureWarning, r"`torch\.cuda\.amp\.autocast"),  # monai-generative
    (UserWarning, r"The parameter 'pretrained' is deprecated"),  # lpips
    (DeprecationWarning, r"`ray_remote_args` is deprecated"),  # Ray Data, of its actors' restarts
    (UserWarning, r"Arguments other than a weight enum or `None`"),  # lpips
)


@contextlib.contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """Hide the deprecation notices that MONAI, lpips and Ray set off, and nothing else."""
    with warnings.catch_warnings():
        for category, message in _NOTICES:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield


def require(extra: str, *packages: str) -> None:
    """Raise a `UserError` where a package of an extra is not installed."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(
            f"found no package {missing[0]}, expected pip install 'diffusion-ood[{extra}]'"
        )
