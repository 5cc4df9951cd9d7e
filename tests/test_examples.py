"""The examples run as their first lines say, and what they print is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from diffusion_ood import Detector, Diffusion
from diffusion_ood.calibration.fdr import benjamini_hochberg
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.options import DiffusionOptions, ImageOptions, ReconstructOptions

GREY = ImageOptions(is_grayscale=True)
ROOT = Path(__file__).parents[1]


def run(script: str, *argv: str, cwd: Path) -> str:
    """What an example prints, run from a folder that holds nothing else."""
    return subprocess.run(
        [sys.executable, ROOT / "examples" / script, *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def rows(table: str) -> dict[str, list[float]]:
    lines = [line.split() for line in table.splitlines()[1:]]
    return {name: [float(value) for value in values] for name, *values in lines}


def test_all_examples_are_tested_here() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {
        "circles_dataset.py",
        "cut_into_shards.py",
        "gradient_score.py",
        "guard_a_model.py",
        "heun_sampler.py",
        "join_decisions.py",
        "mad_head.py",
        "mix_a_folder.py",
        "score_norm_method.py",
        "side_by_side.py",
    }


def test_the_gradient_score_sees_sharpness_and_no_brightness(tmp_path: Path) -> None:
    found = rows(run("gradient_score.py", cwd=tmp_path))
    (mse, gradient), (mse_blurred, gradient_blurred) = found["brighter"], found["blurred"]
    assert mse == pytest.approx(mse_blurred, abs=1e-4)
    assert gradient == 0
    assert gradient_blurred > 0.1


def test_heun_is_of_second_order_and_ddim_of_first(tmp_path: Path) -> None:
    found = rows(run("heun_sampler.py", cwd=tmp_path))
    assert found["32"][0] / found["64"][0] == pytest.approx(2, rel=0.05)
    assert found["32"][1] / found["64"][1] == pytest.approx(4, rel=0.05)


def test_the_norm_of_the_score_of_a_gaussian_is_the_expected_one(tmp_path: Path) -> None:
    """λ = 5, 3, 1 and −1 for images in [−1, 1] are these times for images in [0, 1]."""
    found = rows(run("score_norm_method.py", cwd=tmp_path))
    assert list(found) == ["8", "30", "89", "223"]
    for measured, expected in found.values():
        assert measured == pytest.approx(expected, rel=0.03)


def test_the_median_head_is_not_moved_by_odd_images(tmp_path: Path) -> None:
    found = rows(run("mad_head.py", cwd=tmp_path))
    (clean, z), (mixed, z_mixed) = found["clean"], found["mixed"]
    assert clean == pytest.approx(4, rel=0.05)
    assert z == pytest.approx(4, rel=0.05)
    assert mixed == pytest.approx(4, rel=0.1)
    assert z_mixed < 1


def test_a_mixed_folder_has_usual_mirrored_other_and_broken_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    write_images(tmp_path, "A_test", images, ["a"] * 80)
    write_images(tmp_path, "B_test", images[:12], ["b"] * 12)
    splits = [f"data_splits/{name}_test.csv" for name in "AB"]
    run("mix_a_folder.py", *splits, "mixed", "5", cwd=tmp_path)
    found = {path.stem: path for path in (tmp_path / "mixed").iterdir()}
    broken = found.pop("broken")
    kinds = [name.split("_")[0] for name in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {"usual": 60, "mirrored": 10, "other": 10}
    for name, path in found.items():
        kind, number = name.split("_")
        expected = images[int(number)]
        mirrored = expected[:, ::-1] if kind == "mirrored" else expected
        assert np.array_equal(np.asarray(Image.open(path)), mirrored)
    with pytest.raises(OSError, match="truncated"):
        Image.open(broken).load()


def test_detectors_are_compared_by_the_images_that_they_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    usual = rng.normal(size=50)
    for name, shift in (("sharp", 2.0), ("blunt", 1.0)):
        (tmp_path / name).mkdir()
        for of_set, by in (("in", 0.0), ("A_test_noise3", shift), ("B", 9.0)):
            scores = pd.DataFrame({"score": usual + by + 0.1 * rng.normal(size=50)})
            scores.to_csv(tmp_path / name / f"decisions_{of_set}.csv")
    printed = run("side_by_side.py", "t.csv", "blunt=blunt", "sharp=sharp", cwd=tmp_path)
    table = pd.read_csv(tmp_path / "t.csv").set_index(["set", "detector"])
    for name, least, most in (("sharp", 0.85, 0.99), ("blunt", 0.65, 0.85)):
        found, mean = table.loc[("A_test_noise3", name)], table.loc[("(mean of faults)", name)]
        assert least < found["auroc"] < most
        assert mean["auroc"] == pytest.approx(found["auroc"])  # B is no fault
        assert mean["low"] < mean["auroc"] < mean["high"]
        assert mean["high"] - mean["low"] < found["high"] - found["low"]  # copies are resampled
    assert printed.index("sharp, with") < printed.index("blunt by")


def write_shards(folder: Path, p_values: NDArray[np.float64]) -> None:
    """Three finished shards, one of them Parquet; the last image of each cannot be read."""
    for number, part in enumerate(np.array_split(p_values, 3)):
        shard, lists = folder / str(number), folder.parent / "shards"
        shard.mkdir(parents=True)
        lists.mkdir(exist_ok=True)
        (lists / f"{number}.csv").touch()
        (shard / "screening.json").write_text(json.dumps({"detector": "abc"}))
        (shard / "report.html").touch()
        names = [f"{number}/NA" if k == 1 else f"{number}/{k}" for k in range(len(part))]
        rows = pd.DataFrame({"file": names, "score": 1 / part, "p_value": part, "reason": ""})
        rows.loc[len(part) - 1, ["score", "p_value"]] = np.nan
        if number == 1:
            rows.to_parquet(shard / "decisions.parquet")
        else:
            rows.to_csv(shard / "decisions.csv", index=False)


@pytest.mark.parametrize("unusual", [0, 40])
def test_shards_are_reported_as_all_their_images_together(tmp_path: Path, unusual: int) -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([np.full(unusual, 1 / 100), rng.integers(1, 101, 300 - unusual) / 100])
    rng.shuffle(p)
    write_shards(tmp_path / "screened", p)
    run("join_decisions.py", "shards", "screened", "reported.csv", "0.1", cwd=tmp_path)
    read = [part[:-1] for part in np.array_split(p, 3)]
    expected = int(benjamini_hochberg(np.concatenate(read), 0.1).sum())
    reported = pd.read_csv(tmp_path / "reported.csv", keep_default_na=False)
    assert (expected > 0) == (unusual > 0)
    assert len(reported) == reported["file"].nunique() == expected
    assert (reported["p_value"] == 0.01).all()


def test_an_unfinished_shard_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "screened", np.full(30, 0.01))
    (tmp_path / "screened" / "1" / "report.html").unlink()
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("join_decisions.py", "shards", "screened", "reported.csv", "0.1", cwd=tmp_path)
    assert "['1']" in error.value.stderr
    assert not (tmp_path / "reported.csv").exists()


def test_shards_of_nothing_that_was_read_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "screened", np.full(3, 0.01))  # the last one of each cannot be
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("join_decisions.py", "shards", "screened", "reported.csv", "0.1", cwd=tmp_path)
    assert "3 images" in error.value.stderr
    for fdr in ("10", "ten"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            run("join_decisions.py", "shards", "screened", "reported.csv", fdr, cwd=tmp_path)
        assert "Traceback" not in error.value.stderr
    assert not (tmp_path / "reported.csv").exists()


def test_shards_are_lists_that_screening_takes(tmp_path: Path) -> None:
    names = ["a/0, 1.png", 'a/"q".png', "s3://bucket/x.png", f"{tmp_path}/a/3.png", "a/é.png"]
    (tmp_path / "a").mkdir()
    for name in names:
        if "://" not in name:
            (tmp_path / name).touch()
    (tmp_path / "names.txt").write_text("\n".join([*names, ""]))
    run("cut_into_shards.py", "names.txt", "shards", "2", cwd=tmp_path)
    found = [tmp_path / "shards" / f"{number}.csv" for number in range(3)]
    assert sorted((tmp_path / "shards").iterdir()) == found
    whole = [name if "://" in name else str(tmp_path / name) for name in names]
    assert [list(read_split(path).images) for path in found] == [whole[:2], whole[2:4], whole[4:]]


@pytest.mark.parametrize(
    ("names", "size"), [("", "2"), ("nowhere.png\nthere.png\n", "2"), ("there.png\n", "0")]
)
def test_lists_that_cannot_be_cut_are_refused(tmp_path: Path, names: str, size: str) -> None:
    (tmp_path / "there.png").touch()
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(subprocess.CalledProcessError):
        run("cut_into_shards.py", "names.txt", "shards", size, cwd=tmp_path)


@pytest.mark.slow
def test_a_guarded_classifier_is_right_more_often_on_what_it_keeps(tmp_path: Path) -> None:
    """Small digits; random features of an untrained network tell noise and photographs already."""
    digits, labels = load_digits(return_X_y=True)
    pixels, texts = (digits.reshape(-1, 8, 8) * 15).astype(np.uint8), [str(k) for k in labels]
    patches = [load_sample_image("china.jpg")[y : y + 8, :8].mean(-1) for y in range(0, 400, 8)]
    write_images(tmp_path, "MNIST5k_train", pixels[:1000], texts[:1000])
    write_images(tmp_path, "MNIST5k_test", pixels[1200:1500], texts[1200:1500])
    write_images(tmp_path, "PhotoPatches_test", np.uint8(patches), ["china"] * len(patches))
    torch.manual_seed(0)
    diffusion = Diffusion(DiffusionOptions(model_type="tiny"), (1, 8, 8), GREY)
    options = ReconstructOptions(methods=("features",))
    detector = Detector.fit(
        diffusion, pixels[1000:1200], pixels[:1000], options=options, device="cpu"
    )
    detector.save(tmp_path / "digits.detector")
    found = rows(run("guard_a_model.py", "digits.detector", ".", "5", cwd=tmp_path))
    sizes = {kind: values[0] for kind, values in found.items()}
    assert sizes == {"usual": 150, "mirrored": 50, "noisy": 50, "over": 50, "all": 300}
    for kind in ("noisy", "over"):
        assert found[kind][2] > 90
    assert found["usual"][2] < 15
    _, right, refused, right_of_kept = found["all"]
    assert refused > 30
    assert right_of_kept > right + 10


def write_images(folder: Path, name: str, images: NDArray[np.uint8], labels: list[str]) -> None:
    """Images as files, and their split."""
    (folder / name).mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / name / f"{number}.png")
    paths = [f"../{name}/{number}.png" for number in range(len(images))]
    write_split(folder / f"data_splits/{name}.csv", paths, labels)


def test_the_circles_become_a_data_set(tmp_path: Path) -> None:
    run("circles_dataset.py", "data", cwd=tmp_path)
    splits = {p: tmp_path / f"data/data_splits/Circles_{p}.csv" for p in ("train", "val", "test")}
    assert {part: len(read_split(path)) for part, path in splits.items()} == {
        "train": 190, "val": 10, "test": 50,
    }  # fmt: skip
    image = np.asarray(Image.open(tmp_path / "data/Circles/test/00000.png"))
    assert image.shape == (32, 32)
    assert set(np.unique(image)) == {0, 255}
    assert "large" in splits["test"].read_text()
