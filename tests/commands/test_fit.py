"""`diffusion-ood fit`: from a run to a detector, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from ramps import ramps

from diffusion_ood import Detector
from diffusion_ood.commands import fit
from diffusion_ood.errors import UserError


@pytest.fixture
def flags(run_dir: Path, tmp_path: Path) -> list[str]:
    """Of a run with 20 validation and 30 training images of its own."""
    for name, num, seed in (("val", 20, 1), ("train", 30, 2)):
        (tmp_path / name).mkdir()
        for k, image in enumerate(ramps(num, seed) + seed):
            pixels = image.copy()
            pixels[0, k % 8] = 5 * k  # so that no two are equal
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
        rows = "".join(f"{name}/{k}.png\n" for k in range(num))
        (tmp_path / f"{name}.csv").write_text(f"image\n{rows}")
    return [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--validation_ids={tmp_path / 'val.csv'}",
        f"--training_ids={tmp_path / 'train.csv'}",
        f"--detector={tmp_path / 'new' / 'd'}",
        *("--budget=3", "--scores=mse", "--device=cpu", "--num_workers=0"),
    ]


def test_a_run_becomes_a_detector(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit.main(flags)
    detector = Detector.load(tmp_path / "new" / "d", "cpu")
    assert [method.name for method in detector.content.methods] == [
        *("denoising", "score_geometry", "features"),
    ]
    assert detector.calls_per_image == 3
    assert len(detector.val_scores) == 20
    assert detector.content.names == [f"val/{k}.png" for k in range(20)]
    origin = detector.summary()["provenance"]
    assert origin["validation"]["split"] == "val.csv"
    assert origin["training"] == {"images": 30, "split": "train.csv"}
    said = capsys.readouterr().out
    assert "3 network calls an image" in said
    assert "20 validation images" in said


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--training_ids={}/val.csv", "training_ids"),
        ("--detector={}/val.csv", "detector"),
        ("--detector={}", "detector"),
        ("--scores=logit_l1", "logit_l1"),
        ("--first_n_val=3", "first_n_val"),
        ("--first_n_reference=3", "first_n_reference"),
        ("--target_fpr=1", "target_fpr"),
        ("--num_levels=3", "num_levels"),
        ("--eval_checkpoint={}/none.pth", "none.pth"),
    ],
)
def test_mistakes_are_refused(flags: list[str], tmp_path: Path, flag: str, named: str) -> None:
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=named):
        fit.main([*flags, flag.format(tmp_path)])
    assert sorted(name for name in os.listdir(tmp_path) if name != ".cache") == before


def test_names_can_be_left_out(flags: list[str], tmp_path: Path) -> None:
    fit.main([*flags, "--no-keep_names"])
    assert Detector.load(tmp_path / "new" / "d", "cpu").content.names == []
