"""How long work will take, said before it begins."""

from __future__ import annotations

import torch

from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import describe
from diffusion_ood.runtime.words import duration

SHORT_S = 10.0


def expected(seconds: float, device: torch.device, work: str) -> str:
    """A sentence on the time that work will take; empty below `SHORT_S`, as it is soon over."""
    if seconds < SHORT_S:
        return ""
    processes = distributed.world_size()
    return f"about {duration(seconds)} on {processes} × {describe(device)}: {work}"
