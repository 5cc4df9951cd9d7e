"""Scoring that is stopped, killed or started twice makes the table of one that was left alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diffusion_ood.commands import ood_detection

SETS = ("val", "in", "B")


@pytest.fixture(scope="module")
def flags(score_flags: Callable[[Path], list[str]]) -> Callable[..., list[str]]:
    """The command line that scores by the model of a run directory, two images at a time."""
    return lambda run_dir, *more: ["reconstruct", *score_flags(run_dir), "--batch_size=2", *more]


@pytest.fixture(scope="module")
def undisturbed(
    nursery: Any, flags: Any, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The ood folder of a run that nothing happened to."""
    run_dir = tmp_path_factory.mktemp("scored") / "A"
    shutil.copytree(trained, run_dir, copy_function=os.link)
    job = nursery.start(*flags(run_dir))
    assert job.wait() == 0, job.text
    return run_dir / "ood"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_ends_with_its_signal_and_goes_on_with_what_is_missing(
    number: signal.Signals, nursery: Any, flags: Any, run_dir: Path, undisturbed: Path
) -> None:
    stopped = nursery.start(*flags(run_dir), FAULT=f"{number.name}@5")  # 3 of val, 2 of in
    assert stopped.wait() == -number
    assert "Traceback" not in stopped.text
    part = run_dir / "ood" / "parts" / "results_in.0.csv"
    assert pd.read_csv(part)["filename"].nunique() == 4
    os.truncate(part, part.stat().st_size - 7)  # the fourth image's last row is torn
    again = nursery.start(*flags(run_dir))
    assert again.wait() == 0
    assert "val: 6 of 6 images were done" in again.text
    assert "in: 3 of 6 images were done" in again.text
    for name in SETS:
        found, expected = (
            pd.read_csv(folder / f"results_{name}.csv") for folder in (run_dir / "ood", undisturbed)
        )
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-8)
    assert not [*(run_dir / "ood").rglob("parts/*"), *(run_dir / "ood").rglob(".*.tmp")]


def test_of_a_killed_batch_the_finished_images_are_there(
    nursery: Any, flags: Any, run_dir: Path, undisturbed: Path
) -> None:
    """All six are one batch, of which the third has just been written."""
    argv = flags(run_dir, "--batch_size=6", "--max_batch=2")
    killed = nursery.start(*argv, FAULT="SIGKILL@3", GATHER="0")
    assert killed.wait() == -signal.SIGKILL
    part = run_dir / "ood" / "parts" / "results_val.0.csv"
    assert list(pd.read_csv(part)["filename"].unique()) == [f"A_val/{i}.png" for i in range(3)]
    again = nursery.start(*argv)
    assert again.wait() == 0
    assert "val: 3 of 6 images were done" in again.text
    for name in SETS:
        found, expected = (
            pd.read_csv(folder / f"results_{name}.csv") for folder in (run_dir / "ood", undisturbed)
        )
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-8)


def test_a_second_job_on_one_folder_is_refused_while_detection_may_read(
    nursery: Any, flags: Any, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nursery.start(*flags(run_dir)).wait() == 0
    more = [flag.replace("A_test", "A_more") for flag in flags(run_dir)]
    first = nursery.start(*more, FAULT="SIGSTOP@1")
    first.wait_for(first.is_stopped)
    second = nursery.start(*flags(run_dir))
    assert second.wait() == 2
    holder = f"commands.py (process {first.pid} on {socket.gethostname()})"
    assert f"{run_dir / 'ood'}: {holder}" in second.text
    ood_detection.main([f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}"])
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert nursery.start(*more).wait() == 0
