"""Options of `diffusion-ood export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusion_ood.options.fields import OptionGroup, option


@dataclass(frozen=True)
class ExportOptions(OptionGroup):
    """Export: which detector, and the bundle that it becomes."""

    detector: Path = option("file of diffusion-ood fit", exists=True, positional=True)
    bundle: Path = option("folder to write, a bundle of MONAI")
    authors: str = option("authors, for the bundle's metadata", "not stated")
    copyright: str = option("copyright notice, for the bundle's metadata", "not stated")
