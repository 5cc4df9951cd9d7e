"""`diffusion-ood screen --ray` on a GPU. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ramps import JOINED, ramps, write

from diffusion_ood import Detector, Diffusion
from diffusion_ood.commands import screen

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_two_workers_on_one_gpu_decide_as_one_process(diffusion: Diffusion, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    path = tmp_path / "ramps.detector"
    Detector.fit(diffusion, ramps(80, 1), ramps(40, 2), options=JOINED, device="cuda").save(path)
    write(tmp_path / "in", [*ramps(100, 3)], "p{:02}_{}", 10)
    tables = []
    for name, flags in (("one", []), ("two", ["--ray=auto", "--ray_workers=2"])):
        out = tmp_path / name
        screen.main([str(path), str(tmp_path / "in"), f"--output={out}", "--device=cuda", *flags])
        tables.append(pd.read_csv(out / "decisions.csv"))
    one, two = tables
    assert list(two["file"]) == list(one["file"])
    for column in ("score", "p_value"):
        np.testing.assert_allclose(two[column], one[column], atol=1e-5)
