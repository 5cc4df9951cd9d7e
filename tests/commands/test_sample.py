"""Samples: exactly as many as asked for, the same however they are divided."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.commands import sample
from diffusion_ood.errors import UserError

FLAGS = ["--device=cpu", "--compile=off", "--num_inference_steps=3"]


def flags(trained: Path, folder: Path, *more: str) -> list[str]:
    run = [f"--output_dir={trained.parent}", f"--model_name={trained.name}"]
    return [*run, f"--image_path={folder}", *FLAGS, *more]


def pictures(folder: Path) -> np.ndarray:
    """The PNGs in the order of their numbers, as floats in [0, 1]."""
    paths = sorted(folder.glob("[0-9]*.png"))
    return np.stack([np.asarray(Image.open(path)) / 255 for path in paths])


@pytest.mark.parametrize("number", [1, 7, 23])
def test_there_are_exactly_as_many_as_asked_for(number: int, trained: Path, tmp_path: Path) -> None:
    sample.main(flags(trained, tmp_path, f"--num_samples={number}", "--max_batch=5"))
    found = pictures(tmp_path)
    assert found.shape == (number, 8, 8)
    assert len(np.unique(found, axis=0)) == number
    assert (tmp_path / "sheet.png").exists() is (number >= 10)


def test_an_array_holds_the_same_samples_in_any_batch(trained: Path, tmp_path: Path) -> None:
    sample.main(flags(trained, tmp_path / "png", "--num_samples=12", "--max_batch=12"))
    more = ["--num_samples=9", "--max_batch=2", "--format=npy"]
    sample.main(flags(trained, tmp_path / "npy", *more))
    found = np.load(tmp_path / "npy" / "samples.npy")
    assert (found.shape, found.dtype) == ((9, 1, 8, 8), np.float32)
    np.testing.assert_allclose(found[:, 0], pictures(tmp_path / "png")[:9], atol=0.51 / 255)
    assert {path.name for path in (tmp_path / "npy").iterdir()} == {"samples.npy", ".lock"}


def test_another_seed_gives_other_samples(trained: Path, tmp_path: Path) -> None:
    for seed in (2, 3):
        sample.main(flags(trained, tmp_path / str(seed), "--num_samples=4", f"--seed={seed}"))
    assert abs(pictures(tmp_path / "2") - pictures(tmp_path / "3")).max() > 0.1


def test_clipped_samples_are_less_often_at_the_borders(trained: Path, tmp_path: Path) -> None:
    """The model is hardly trained, so that what it predicts lies far out."""
    shares = {}
    for clip in (0, 1):
        more = ["--num_samples=6", "--format=npy", f"--clip_denoised={clip}"]
        sample.main(flags(trained, tmp_path / str(clip), *more))
        found = np.load(tmp_path / str(clip) / "samples.npy")
        shares[clip] = np.isin(found, (0, 1)).mean()
    assert shares[1] < shares[0] - 0.1


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "plms", "pndm4"])
def test_every_sampler_draws_images(sampler: str, trained: Path, tmp_path: Path) -> None:
    sample.main(flags(trained, tmp_path, "--num_samples=2", f"--sampler={sampler}"))
    assert pictures(tmp_path).std(axis=(1, 2)).min() > 0.01


def test_two_processes_draw_what_one_draws(trained: Path, tmp_path: Path, launch: Any) -> None:
    more = ["--num_samples=5", "--format=npy"]
    sample.main(flags(trained, tmp_path / "one", *more))
    for done in launch(__file__, *flags(trained, tmp_path / "two", *more), processes=2):
        assert done.returncode == 0, done.stderr
    one, two = (np.load(tmp_path / name / "samples.npy") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--guidance=2"], "`guidance`"),
        (["--classes=0"], "`classes`.* '0'"),
        (["--num_samples=0"], "`num_samples`"),
    ],
)
def test_a_mistake_names_its_option(
    more: list[str], named: str, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=named):
        sample.main(flags(trained, tmp_path, *more))


if __name__ == "__main__":
    sample.main(sys.argv[1:])
