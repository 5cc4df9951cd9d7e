"""The one file of a detector: whole, equal for equal inputs, and never able to run code."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ramps import JOINED, noise, ramps
from torch import Tensor

from diffusion_ood import Detector, Diffusion
from diffusion_ood.detector import file
from diffusion_ood.errors import UserError
from diffusion_ood.methods.scores import chosen
from diffusion_ood.networks import alexnet
from diffusion_ood.options import ReconstructOptions


@pytest.fixture(scope="module")
def saved(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "ramps.detector"
    detector.save(path)
    return path


def test_a_copy_gives_the_same_answers(detector: Detector, saved: Path, tmp_path: Path) -> None:
    other = Detector.load(shutil.copy(saved, tmp_path / "copy"), "cpu")
    images = np.concatenate([ramps(5, 3), noise(4, 4)])
    expected, found = detector.score(images), other.score(images)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.p_value, expected.p_value)
    assert other.digest == detector.digest
    assert other.summary() == detector.summary()


def test_equal_inputs_give_equal_files(diffusion: Diffusion, saved: Path, tmp_path: Path) -> None:
    again = Detector.fit(
        diffusion, ramps(60, 1), ramps(40, 2), options=JOINED, target_fpr=0.1, device="cpu"
    )
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("method", ["denoising", "inpainting", "projection_regret"])
def test_lpips_weights_are_in_the_file(
    method: str,
    diffusion: Diffusion,
    random_features: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where they are used, so that a machine that lacks them gives the same scores."""
    monkeypatch.setattr(alexnet, "DIGEST", alexnet.digest(random_features))
    options = ReconstructOptions(methods=(method,), num_levels=2)
    with alexnet.given(random_features):
        made = Detector.fit(diffusion, ramps(20, 1), options=options, device="cpu")
        made.save(tmp_path / "d")
    monkeypatch.setattr(alexnet, "FILES", ())
    assert chosen.find_alexnet_features() is None
    loaded = Detector.load(tmp_path / "d", "cpu")
    images = noise(3, 1)
    np.testing.assert_array_equal(loaded.score(images).score, made.score(images).score)


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["alone", "within"])
def test_a_hostile_file_runs_nothing(saved: Path, tmp_path: Path, where: str) -> None:
    hostile = Hostile(tmp_path / "executed")
    path = tmp_path / "hostile.detector"
    if where == "alone":
        path.write_bytes(pickle.dumps(hostile))
    else:
        content = torch.load(saved, weights_only=True)
        torch.save({**content, "names": [hostile]}, path)
    with pytest.raises(UserError, match=r"hostile\.detector"):
        Detector.load(path, "cpu")
    assert not hostile.path.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_torn_file_is_refused(saved: Path, tmp_path: Path, share: float) -> None:
    whole = saved.read_bytes()
    path = tmp_path / "torn.detector"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"torn\.detector"):
        Detector.load(path, "cpu")


def test_a_changed_byte_is_seen(saved: Path, tmp_path: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "changed.detector"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"changed\.detector"):
        Detector.load(path, "cpu")


@pytest.mark.parametrize(
    "lacking",
    ["options", "weights", "methods", "learned", "joined", "by_method", "maps", "names"],
)
def test_a_file_without_a_part_is_refused(saved: Path, tmp_path: Path, lacking: str) -> None:
    content = torch.load(saved, weights_only=True)
    if lacking == "methods":
        content["options"]["ReconstructOptions"]["methods"] = ["unheard_of"]
    else:
        del content[lacking]
    torch.save(content, tmp_path / "d")
    with pytest.raises(UserError, match="d: found"):
        Detector.load(tmp_path / "d", "cpu")


def test_a_later_format_is_named(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "detector": file.FORMAT + 1}, tmp_path / "d")
    with pytest.raises(UserError, match=f"format {file.FORMAT + 1}, expected {file.FORMAT}"):
        Detector.load(tmp_path / "d", "cpu")


def test_a_checkpoint_is_no_detector(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found a checkpoint"):
        Detector.load(trained / "checkpoint_best.pth", "cpu")
    with pytest.raises(UserError, match="no such file"):
        Detector.load(tmp_path / "none.detector", "cpu")


def test_it_holds_no_digest_of_a_training_image(saved: Path) -> None:
    """Which say who was among them, and grow with their number."""
    content = torch.load(saved, weights_only=True)
    assert set(content["training"]) <= {"intensity"}
    assert content["names"] == []


@pytest.mark.slow
def test_equal_inputs_give_equal_files_in_other_processes(trained: Path, tmp_path: Path) -> None:
    """Whose sets have another order."""
    script = (
        "import sys; from ramps import JOINED, ramps\n"
        "from diffusion_ood import Detector, Diffusion\n"
        "model = Diffusion.load(sys.argv[1])\n"
        "Detector.fit(model, ramps(30, 1), ramps(30, 2), options=JOINED, device='cpu')"
        ".save(sys.argv[2])"
    )
    for seed in ("0", "1"):
        subprocess.run(
            [sys.executable, "-c", script, trained / "checkpoint_best.pth", tmp_path / seed],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def edited(content: dict[str, Any], edit: str) -> dict[str, Any]:
    if edit == "scores that are no numbers":
        content["joined"]["val_scores"][0] = torch.nan
    elif edit == "fewer scores":
        content["joined"]["val_scores"] = content["joined"]["val_scores"][:1]
    elif edit == "no method":
        content["by_method"] = {}
    elif edit == "a mean that is no number":
        content["joined"]["head"]["distances"]["head"]["mean"][0] = torch.nan
    elif edit == "fewer means":
        mean = content["joined"]["head"]["distances"]["head"]["mean"]
        content["joined"]["head"]["distances"]["head"]["mean"] = mean[:1]
    return content


@pytest.mark.parametrize(
    "edit",
    [
        *("scores that are no numbers", "fewer scores", "no method"),
        *("a mean that is no number", "fewer means"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(saved: Path, tmp_path: Path, edit: str) -> None:
    torch.save(edited(torch.load(saved, weights_only=True), edit), tmp_path / "d")
    with pytest.raises(UserError, match="d: found"):
        Detector.load(tmp_path / "d", "cpu")


def test_another_file_is_not_overwritten(trained: Path, saved: Path, tmp_path: Path) -> None:
    file.refuse_other_file(saved)
    file.refuse_other_file(tmp_path / "new" / "d")
    (tmp_path / "split.csv").write_text("image\n")
    places = (tmp_path / "split.csv", trained / "checkpoint_best.pth", tmp_path)
    for place in (*places, tmp_path / "split.csv" / "d"):
        with pytest.raises(UserError, match="detector"):
            file.refuse_other_file(place)
