"""Interpolation from its command line: which pictures there are, and what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.commands import interpolate
from diffusion_ood.errors import UserError

MACHINE = ["--device=cpu", "--compile=off", "--num_workers=0"]


def pictures(trained: Path, ids: Path, folder: Path, *flags: str) -> dict[str, np.ndarray]:
    given = [f"--image_ids={ids}", f"--checkpoint={trained / 'checkpoint_best.pth'}"]
    more = [f"--image_path={folder}", "--num_inference_steps=10", "--num_pairs=2"]
    interpolate.main([*given, *more, *MACHINE, *flags])
    return {path.stem: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


def test_there_are_three_rows_of_nine_pictures_a_pair(
    trained: Path, splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = pictures(trained, splits / "A_train.csv", tmp_path / "made")
    names = {f"img{row}-{pair}-{k}" for row in (1, 2, 3) for pair in (0, 1) for k in range(1, 10)}
    ends = {f"img{row}-{pair}" for row in (100, 200) for pair in (0, 1)}
    assert found.keys() == names | ends | {"sheet"}
    assert "2 pairs in" in capsys.readouterr().out
    for k, name in enumerate(("img100-0", "img200-0", "img100-1", "img200-1")):
        original = np.asarray(Image.open(splits / "A_train" / f"{k}.png"))
        np.testing.assert_array_equal(found[name], original)
    assert np.abs(found["img1-0-1"].astype(int) - found["img1-0-9"]).max() > 3
    again = pictures(trained, splits / "A_train.csv", tmp_path / "again", "--max_batch=5")
    for name in names:
        assert np.abs(found[name].astype(int) - again[name]).max() <= 1, name


def test_between_an_image_and_itself_both_ways_are_one(
    trained: Path, own_splits: Path, tmp_path: Path
) -> None:
    twin = own_splits / "A_train" / "twin.png"
    twin.write_bytes((own_splits / "A_train" / "0.png").read_bytes())
    ids = own_splits / "twins.csv"
    ids.write_text("image\nA_train/0.png\nA_train/twin.png\n")
    found = pictures(trained, ids, tmp_path / "made", "--num_pairs=1")
    for k in range(1, 10):
        np.testing.assert_array_equal(found[f"img1-0-{k}"], found[f"img2-0-{k}"])
        np.testing.assert_array_equal(found[f"img3-0-{k}"], found["img3-0-1"])


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--num_inference_steps=15", "`num_inference_steps`.* 15.* 10"),
        ("--num_pairs=7", r"A_train\.csv: .* 12 .* 14 .*`num_pairs`"),
        ("--num_pairs=0", "`num_pairs`"),
    ],
)
def test_a_mistake_names_its_option_or_file(
    flag: str, named: str, trained: Path, splits: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=named):
        pictures(trained, splits / "A_train.csv", tmp_path, flag)
