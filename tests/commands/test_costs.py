"""What long commands say of their time before they begin: once, of the work that is left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from ramps import JOINED, ramps

from diffusion_ood import Detector, Diffusion
from diffusion_ood.commands import sample, screen
from diffusion_ood.methods import cost as cost_of_calls
from diffusion_ood.runtime import cost

Command = Callable[..., Path]
Capture = pytest.CaptureFixture[str]

SECONDS_A_CALL = 3600.0
CALLS_OF_A_GRID = 1 + 2 + 3 + 4
COST = re.compile(r"about \S+ \S+ on 1 × cpu[^:]*: ([\d,]+) (?:network call|step)s?")


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network call takes an hour, as far as the commands know, and a second is long."""
    monkeypatch.setattr(cost_of_calls, "seconds_a_call", lambda *_: SECONDS_A_CALL)
    monkeypatch.setattr(cost, "SHORT_S", 1e-6)


def announced(text: str) -> list[int]:
    """The network calls or steps of each announcement."""
    return [int(number.replace(",", "")) for number in COST.findall(text)]


def num_images(splits: Path, *names: str) -> int:
    return sum(len(pd.read_csv(splits / f"{name}.csv")) for name in names)


def test_reconstruct_leaves_out_what_was_finished(
    score: Command, run_dir: Path, splits: Path, capsys: Capture
) -> None:
    images = num_images(splits, "A_val", "A_test", "B_test")
    score(run_dir, "--first_n=3", "--first_n_val=2")
    assert announced(capsys.readouterr().out) == [8 * CALLS_OF_A_GRID]
    score(run_dir)
    assert announced(capsys.readouterr().out) == [(images - 8) * CALLS_OF_A_GRID]
    score(run_dir)
    assert announced(capsys.readouterr().out) == []


@pytest.fixture
def joined(splits: Path, tmp_path: Path) -> list[str]:
    """Flags to measure `joined` of test images, after it has learned from 24 images."""
    names = [f"{splits}/{s}/{k}.png" for s in ("A_train", "A_more") for k in range(12)]
    (reference := tmp_path / "reference.csv").write_text("\n".join(["image", *names]))
    return ["--methods=joined", f"--reference_ids={reference}", "--run_val=0", "--run_out=0"]


def test_what_is_learned_counts_until_it_is(
    score: Command, run_dir: Path, joined: list[str], capsys: Capture
) -> None:
    flags = [*joined, "--budget=3"]
    score(run_dir, *flags, "--first_n=2")
    assert announced(capsys.readouterr().out) == [24 + 2 * 3]
    score(run_dir, *flags, "--first_n=4")
    assert announced(capsys.readouterr().out) == [2 * 3]


@pytest.mark.parametrize(("budget", "offered"), [(30, True), (12, True), (10, False)])
def test_a_large_budget_is_compared_with_a_smaller_one(
    budget: int, offered: bool, score: Command, run_dir: Path, joined: list[str], capsys: Capture
) -> None:
    score(run_dir, *joined, f"--budget={budget}", "--first_n=2")
    text = capsys.readouterr().out
    assert announced(text) == [24 + 2 * budget]
    assert ("--budget=10 about 44 h" in text) is offered


@pytest.fixture
def detector_file(trained: Path, tmp_path: Path) -> Path:
    diffusion = Diffusion.load(trained / "checkpoint_best.pth")
    detector = Detector.fit(diffusion, ramps(20, 1), ramps(20, 2), options=JOINED, device="cpu")
    detector.save(tmp_path / "d")
    return tmp_path / "d"


def test_screen_speaks_of_new_images_and_json_has_stdout_for_itself(
    detector_file: Path, splits: Path, tmp_path: Path, capsys: Capture
) -> None:
    calls = Detector.load(detector_file, "cpu").calls_per_image
    images = num_images(splits, "A_test", "B_test")
    first, second = str(splits / "A_test.csv"), str(splits / "B_test.csv")
    call = [str(detector_file), first, "--device=cpu"]
    screen.main([*call, "--json"])
    said = capsys.readouterr()
    for line in said.out.splitlines():
        json.loads(line)
    new = num_images(splits, "A_test")
    assert announced(said.err) == [calls * new]
    call.append(f"--output={tmp_path / 'out'}")
    screen.main(call)
    assert announced(capsys.readouterr().out) == [calls * new]
    screen.main([call[0], second, *call[1:]])
    assert announced(capsys.readouterr().out) == [calls * (images - new)]
    screen.main([call[0], second, *call[1:]])
    assert announced(capsys.readouterr().out) == []


def test_sample(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = [f"--output_dir={trained.parent}", f"--model_name={trained.name}", "--num_samples=6"]
    flags += [f"--image_path={tmp_path}", "--device=cpu", "--num_inference_steps=3"]
    sample.main(flags)
    assert announced(capsys.readouterr().out) == [6 * 3]


def test_training_speaks_once_of_the_steps_and_validations_that_are_left(
    train: Command, tmp_path: Path, splits: Path, capsys: Capture
) -> None:
    train(tmp_path / "runs" / "A", "--n_epochs=5", "--eval_freq=2")
    steps = 5 * (num_images(splits, "A_train") // 4)
    text = capsys.readouterr().out
    assert announced(text) == [steps - 8]
    assert "2 validations" in text  # after the fourth epoch and the fifth
