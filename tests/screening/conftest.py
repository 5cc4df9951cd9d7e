"""A detector in a file and a folder of images, which the tests of screening share."""

from __future__ import annotations

from pathlib import Path

import pytest
from ramps import JOINED, noise, ramps, write

from diffusion_ood import Detector, Diffusion


@pytest.fixture(scope="session")
def detector_file(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    validation = write(folder / "val", [*ramps(80, 1)], "p{:02}_{}", 4)
    path = folder / "ramps.detector"
    Detector.fit(
        Diffusion.load(trained / "checkpoint_best.pth"),
        validation,
        ramps(40, 2),
        options=JOINED,
        device="cpu",
    ).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """36 usual images of 9 patients, 8 others of 2, a broken file, and something else."""
    write(tmp_path / "in", [*ramps(36, 3)], "p{:02}_{}", 4)
    write(tmp_path / "in" / "more", [*noise(8, 4)], "q{:02}_{}", 4)
    (tmp_path / "in" / "p99_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    (tmp_path / "in" / "notes.md").write_text("no image")
    return tmp_path / "in"
