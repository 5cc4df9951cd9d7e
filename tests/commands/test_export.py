"""`diffusion-ood export`: a MONAI bundle that decides as `screen` does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import create_workflow
from ramps import ramps

from diffusion_ood import Detector, Diffusion
from diffusion_ood.commands import export, screen
from diffusion_ood.errors import UserError
from diffusion_ood.options import ReconstructOptions

FILES = {"configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md"}
DECIDED = ["file", "score", "p_value", "is_ood", "loudest", "reason", "content"]
OPTIONS = ReconstructOptions(methods=("denoising",))


@pytest.fixture(scope="module")
def detector(diffusion: Diffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a detector of ramps."""
    path = tmp_path_factory.mktemp("detectors") / "ramps.detector"
    Detector.fit(diffusion, ramps(20, 1), options=OPTIONS, target_fpr=0.2, device="cpu").save(path)
    return path


@pytest.fixture(scope="module")
def bundle(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "ramps"
    export.main([str(detector), f"--bundle={folder}", "--authors=Ada"])
    return folder


@pytest.fixture
def images(splits: Path, tmp_path: Path) -> Path:
    """A folder of usual images, unusual ones and a broken one."""
    for name in ("A_test", "B_test"):
        shutil.copytree(splits / name, tmp_path / "images" / name)
    (tmp_path / "images/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "images"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def decisions(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "decisions.csv")[DECIDED]


@pytest.fixture
def screened(detector: Path, images: Path, tmp_path: Path) -> pd.DataFrame:
    """The decisions of `screen`."""
    screen.main([str(detector), str(images), f"--output={tmp_path / 'screened'}", "--device=cpu"])
    found = decisions(tmp_path / "screened")
    assert found["reason"].notna().sum() == 1
    assert set(found["is_ood"].dropna()) == {True, False}
    return found


@pytest.mark.slow  # importing all of MONAI's programs takes seconds
def test_monai_runs_the_bundle_to_the_decisions_of_screen(
    bundle: Path, images: Path, screened: pd.DataFrame, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", str(bundle / "configs/inference.json")]
    command += ["--bundle_root", str(bundle), "--dataset_dir", str(images)]
    command += ["--output_dir", str(tmp_path / "run"), "--device", "cpu"]
    packages = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(
        command, env={**os.environ, "PYTHONPATH": packages}, check=True, capture_output=True
    )
    pd.testing.assert_frame_equal(decisions(tmp_path / "run"), screened, check_exact=True)
    assert (tmp_path / "run/report.html").is_file()


def test_the_bundle_holds_the_detector_and_what_the_specification_asks_for(
    bundle: Path, detector: Path
) -> None:
    assert files(bundle) == FILES
    assert (bundle / "models/model.pt").read_bytes() == detector.read_bytes()
    found = json.loads((bundle / "configs/metadata.json").read_text())
    texts = {"schema", "version", "monai_version", "pytorch_version", "numpy_version"}
    texts |= {"task", "description", "authors", "copyright"}
    assert all(isinstance(found[name], str) and found[name] for name in texts)
    assert found["authors"] == "Ada"
    assert isinstance(found["required_packages_version"], dict)
    formats = found["network_data_format"]
    fields = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
    fields |= {"is_patch_data", "channel_def"}
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert fields <= tensor.keys()
        assert len(tensor["channel_def"]) == tensor["num_channels"]
    assert formats["inputs"]["image"]["spatial_shape"] == [8, 8]
    loaded = Detector.load(detector, "cpu")
    assert found["detector"]["digest"] == loaded.digest
    assert found["detector"]["target_fpr"] == 0.2


def test_monai_finds_every_part_of_an_inference_bundle(
    bundle: Path,
    detector: Path,
    images: Path,
    screened: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # MONAI adds the bundle
    workflow = create_workflow(
        config_file=str(bundle / "configs/inference.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(tmp_path / "run"),
        device="cpu",
    )
    assert workflow.check_properties() == []
    assert workflow.spatial_shape == [8, 8]
    assert len(workflow.dataset) == 12
    pixels = torch.rand(2, 1, 8, 8)
    expected = Detector.load(detector, "cpu").measure(pixels)
    np.testing.assert_array_equal(workflow.inferer(pixels).score, expected.score)
    (batch,) = workflow.run()
    assert len(batch.scored) == 11
    pd.testing.assert_frame_equal(decisions(tmp_path / "run"), screened, check_exact=True)


def test_an_unfinished_bundle_is_finished(bundle: Path, detector: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    (torn / "configs").mkdir(parents=True)
    shutil.copy(bundle / "configs/metadata.json", torn / "configs")
    export.main([str(detector), f"--bundle={torn}"])
    assert files(torn) == FILES


def test_what_is_something_else_is_refused_and_kept(
    bundle: Path, trained: Path, detector: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.detector"
    diffusion = Detector.load(detector, "cpu").content.diffusion
    Detector.fit(diffusion, ramps(20, 2), options=OPTIONS, device="cpu").save(other)
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    file.write_text("mine")
    for source, place in ((detector, folder), (detector, file), (other, bundle)):
        with pytest.raises(UserError, match="`bundle`"):
            export.main([str(source), f"--bundle={place}"])
    assert files(folder) == {"notes.txt"}
    assert file.read_text() == "mine"
    assert (bundle / "models/model.pt").read_bytes() == detector.read_bytes()
    with pytest.raises(UserError, match="checkpoint_best"):
        export.main([str(trained / "checkpoint_best.pth"), f"--bundle={tmp_path / 'new'}"])
    assert not (tmp_path / "new").exists()
