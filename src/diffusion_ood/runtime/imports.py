"""Importing libraries: without the notices that no user can act on, of extras, and of Ray."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from diffusion_ood.errors import UserError

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


def require(extra: str, *packages: str) -> None:
    """Raise a `UserError` where a package of an extra is not installed."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(
            f"found no package {missing[0]}, expected pip install 'diffusion-ood[{extra}]'"
        )


def set_up_ray() -> None:
    """Set what Ray takes from the environment, its token only before it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else Ray reports to its makers
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if "ray" not in sys.modules and ("RAY_AUTH_TOKEN" in os.environ or token.exists()):
        # As Ray's command `start` has it; Ray itself would join no cluster that this began.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
