"""`--on_error=skip` from the command line: what is left out, said, counted and listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from diffusion_ood.commands import ood_detection, reconstruct

Command = Callable[..., Path]
Launch = Callable[..., list]

SCRIPT = str(Path(__file__).parents[2] / "reconstruct.py")
SKIP = "--on_error=skip"


def flags_of(run_dir: Path, data: Path) -> list[str]:
    return [
        f"--output_dir={run_dir.parent}",
        f"--model_name={run_dir.name}",
        f"--validation_ids={data / 'A_val.csv'}",
        f"--in_ids={data / 'A_test.csv'}",
        f"--out_ids={data / 'B_test.csv'}",
        *("--num_inference_steps=4", "--device=cpu", "--compile=off", "--num_workers=0"),
        *("--scores=mse", SKIP),
    ]


@pytest.fixture
def torn(own_splits: Path) -> Path:
    """The splits, with two images of A_test and one of B_test that cannot be read."""
    (own_splits / "A_test" / "0.png").write_bytes(b"")
    (own_splits / "A_test" / "4.png").unlink()
    (own_splits / "B_test" / "2.png").write_text("<script>no image</script>")
    return own_splits


def skipped(run_dir: Path) -> list[tuple[str, int, str]]:
    table = pd.read_csv(run_dir / "skipped.csv")
    assert list(table.columns) == ["path", "row", "reason", "set"]
    return list(table[["path", "row", "set"]].itertuples(index=False, name=None))


EXPECTED = [("A_test/0.png", 2, "in"), ("A_test/4.png", 6, "in"), ("B_test/2.png", 4, "B")]


def test_the_rest_is_scored_and_the_skipped_are_listed_and_counted(
    score: Command,
    run_dir: Path,
    torn: Path,
    splits: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reconstruct.main(flags_of(run_dir, torn))
    printed = capsys.readouterr().out
    assert f"in: 2 of 6 images are skipped, see {run_dir / 'skipped.csv'}" in printed
    assert skipped(run_dir) == EXPECTED
    reasons = pd.read_csv(run_dir / "skipped.csv")["reason"]
    assert [reason.split(": ")[1].split(",")[0] for reason in reasons] == [
        "found an empty file",
        "no such file",
        "not an image of a known format",
    ]
    whole = run_dir.parent / "whole"
    whole.mkdir()
    (whole / "checkpoint_best.pth").hardlink_to(run_dir / "checkpoint_best.pth")
    reconstruct.main(flags_of(whole, splits))
    for name, left in (("val", 6), ("in", 4), ("B", 4)):
        found = pd.read_csv(run_dir / f"ood/results_{name}.csv")
        expected = pd.read_csv(whole / f"ood/results_{name}.csv")
        expected = expected[~expected["filename"].isin([path for path, *_ in EXPECTED])]
        assert found["filename"].nunique() == left
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), rtol=1e-5)
        facts = json.loads((run_dir / f"ood/results_{name}.json").read_text())["facts"]
        assert facts["skipped"] == {"val": 0, "in": 2, "B": 1}[name]
    assert not (whole / "skipped.csv").exists()

    capsys.readouterr()
    ood_detection.main(flags_of(run_dir, torn)[:2])
    printed = capsys.readouterr().out
    assert "6 validation and 4 (2 skipped) in-distribution test images" in printed
    assert "4 (1 skipped)" in printed
    metrics = json.loads((run_dir / "ood/metrics.json").read_text())
    assert metrics["num_skipped"] == {"val": 0, "in": 2, "B": 1}
    assert metrics["num_images"] == {"val": 6, "in": 4, "B": 4}


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["1", "0"])
def test_two_processes_skip_the_same_images(
    cache: str, score: Command, run_dir: Path, torn: Path, launch: Launch
) -> None:
    reconstruct.main(flags_of(run_dir, torn))
    other = run_dir.parent / "two"
    other.mkdir()
    (other / "checkpoint_best.pth").hardlink_to(run_dir / "checkpoint_best.pth")
    flags = [*flags_of(other, torn), f"--cache_data={cache}"]
    for process in launch(SCRIPT, *flags, processes=2):
        assert process.returncode == 0, process.stderr
    assert skipped(other) == EXPECTED
    for path in (run_dir / "ood").glob("*.csv"):
        found, expected = pd.read_csv(other / "ood" / path.name), pd.read_csv(path)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_a_mended_image_is_scored_by_the_same_command(
    score: Command, run_dir: Path, torn: Path, splits: Path
) -> None:
    reconstruct.main(flags_of(run_dir, torn))
    for name in ("A_test/0.png", "A_test/4.png"):
        (torn / name).write_bytes((splits / name).read_bytes())
    reconstruct.main(flags_of(run_dir, torn))
    assert skipped(run_dir) == EXPECTED[2:]
    table = pd.read_csv(run_dir / "ood/results_in.csv")
    assert list(table["filename"].unique()) == [f"A_test/{i}.png" for i in range(6)]


def test_training_leaves_them_out_too(
    train: Command, torn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (torn / "A_train" / "3.png").write_bytes(b"x")
    run_dir = train(tmp_path / "runs" / "T", SKIP, data=torn)
    assert skipped(run_dir) == [("A_train/3.png", 5, "training")]
    printed = capsys.readouterr().out
    assert "training: 1 of 12 images are skipped" in printed
    assert "11 training images" in printed
