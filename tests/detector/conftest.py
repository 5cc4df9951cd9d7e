"""A detector of 8 × 8 ramps, which its tests share."""

from __future__ import annotations

import pytest
from ramps import JOINED, ramps

from diffusion_ood import Detector, Diffusion


@pytest.fixture(scope="session")
def detector(diffusion: Diffusion) -> Detector:
    return Detector.fit(
        diffusion, ramps(60, 1), ramps(40, 2), options=JOINED, target_fpr=0.1, device="cpu"
    )
