"""Out-of-distribution detection for images with diffusion models.

    split CSV → data → diffusion model → evaluator → methods → table
              → calibration → decisions → report
                └──────── Detector (one file) → screening, serving

Each stage is a folder of this package and imports only those before it: `data`, `networks` and
`diffusion`, `model`, `trajectories`, `methods`, `calibration`, `detection`, `report`. `scoring`,
`sampling`, `training`, `detector`, `screening` and `serving` join stages, and `commands` are the
programs that call them. `runtime` holds what touches the machine: devices, processes, files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from diffusion_ood.version import __version__

if TYPE_CHECKING:
    from diffusion_ood.detector import Detector as Detector
    from diffusion_ood.methods.measure import measure as measure
    from diffusion_ood.model import Diffusion as Diffusion
    from diffusion_ood.trajectories.evaluator import Evaluator as Evaluator

__all__ = ["Detector", "Diffusion", "Evaluator", "__version__", "measure"]

# Imported when they are asked for, so that a command line is read before torch is imported.
_PLACES = {
    "Detector": "diffusion_ood.detector",
    "Diffusion": "diffusion_ood.model",
    "Evaluator": "diffusion_ood.trajectories.evaluator",
    "measure": "diffusion_ood.methods.measure",
}


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])


def __getattr__(name: str) -> object:
    """The public names, see docs/api.md."""
    if name not in _PLACES:
        raise AttributeError(f"module 'diffusion_ood' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
