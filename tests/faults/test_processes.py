"""Work in one, two and three processes: the same numbers, nothing twice, and an error said once."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from diffusion_ood.runtime.checkpoint import load_checkpoint

SIZES = {"val": 2, "in": 7, "B": 5}


def run(nursery: Any, processes: int, *argv: str, **env: str) -> str:
    """Run a command, and return what it said."""
    jobs = (
        nursery.group(processes, *argv, **env) if processes > 1 else [nursery.start(*argv, **env)]
    )
    assert [job.wait() for job in jobs] == [0] * processes, "".join(job.text for job in jobs)
    return "".join(job.text for job in jobs)


def linked(trained: Path, folder: Path) -> Path:
    """A run directory with the checkpoints of `trained`."""
    shutil.copytree(trained, folder, copy_function=os.link, ignore=lambda *_: ["ood"])
    return folder


def test_tables_of_one_two_and_three_processes_are_equal(
    nursery: Any, score_flags: Callable[[Path], list[str]], trained: Path, tmp_path: Path
) -> None:
    tables = {}
    for processes in (1, 2, 3):
        run_dir = linked(trained, tmp_path / str(processes))
        flags = [flag.replace("A_test", "A_more") for flag in score_flags(run_dir)]
        more = ["--first_n=7", "--first_n_val=2", "--batch_size=3"]
        said = run(nursery, processes, "reconstruct", *flags, *more)
        assert f"--batch_size is 3 images a process, {3 * processes} in all" in said
        tables[processes] = {
            name: pd.read_csv(run_dir / "ood" / f"results_{name}.csv") for name in SIZES
        }
        for name, images in SIZES.items():
            table = tables[processes][name]
            assert len(table) == 4 * images
            assert not table.duplicated(["filename", "t"]).any()
            pd.testing.assert_frame_equal(table, tables[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", [2, 7])
def test_samples_of_one_and_three_processes_are_equal(
    number: int, nursery: Any, trained: Path, tmp_path: Path
) -> None:
    """One row a call, since three coarse steps from t = 999 enlarge a batch's rounding to 4e-5."""
    found = []
    for processes in (1, 3):
        flags = [f"--output_dir={trained.parent}", f"--model_name={trained.name}"]
        flags += [f"--image_path={tmp_path / str(processes)}", f"--num_samples={number}"]
        flags += [
            "--max_batch=1",
            "--format=npy",
            "--num_inference_steps=3",
            "--device=cpu",
            "--compile=off",
        ]
        run(nursery, processes, "sample", *flags)
        found.append(np.load(tmp_path / str(processes) / "samples.npy"))
    assert len(found[0]) == number
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def relative_difference(found: Path, expected: Path) -> float:
    """How far two runs' weights are apart, of how far the training moved them after epoch 1."""
    a, b, c = (
        load_checkpoint(path)["trainer"]["network"]
        for path in (
            found / "checkpoint.pth",
            expected / "checkpoint.pth",
            expected / "checkpoint_1.pth",
        )
    )

    def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
        return sum((first[k] - second[k]).double().square().sum().item() for k in first) ** 0.5

    return distance(a, b) / distance(b, c)


@pytest.mark.parametrize(
    ("command", "env", "tolerance"),
    [
        ("train_ddpm", {"FLOAT64": "1"}, 1e-10),
        ("train_ddpm", {}, 1e-2),
        ("train_vqvae", {}, 1e-2),  # MONAI's codes are single precision
    ],
)
def test_two_processes_at_half_the_batch_train_like_one_for_20_steps(
    command: str,
    env: dict[str, str],
    tolerance: float,
    nursery: Any,
    training: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """To rounding, which the steps enlarge as much in single precision as in double."""
    said = {}
    for processes in (1, 2):
        more = ["--batch_size=6", "--n_epochs=10", "--eval_freq=10", "--checkpoint_every=1"]
        flags = training(command, tmp_path / str(processes), *more)
        said[processes] = run(nursery, processes, *flags, **env)
    assert "6 images a step, 6 of them in each process" in said[1]
    assert "6 images a step, 3 of them in each process" in said[2]
    one, two = tmp_path / "1", tmp_path / "2"
    assert load_checkpoint(two / "checkpoint.pth")["trainer"]["step"] == 20
    assert relative_difference(two, one) < tolerance
    losses = [
        [float(loss) for loss in re.findall(r"loss (\d\.\d+)", said[processes])]
        for processes in (1, 2)
    ]
    assert len(losses[0]) == 10
    assert losses[1] == pytest.approx(losses[0], rel=1e-12 if env else 1e-4)


def errors(jobs: Sequence[Any]) -> list[str]:
    """The lines that begin with the word."""
    return re.findall(r"^error.*", "".join(job.text for job in jobs), re.MULTILINE)


def test_a_mistake_in_one_process_is_said_once_with_its_rank_and_ends_all(
    nursery: Any, score_flags: Callable[[Path], list[str]], run_dir: Path
) -> None:
    flags = [*score_flags(run_dir), "--batch_size=1"]
    jobs = nursery.group(3, "reconstruct", *flags, FAULT="mistake@2", FAULT_RANK="1")
    assert [job.wait() for job in jobs] == [1, 2, 1]
    assert errors(jobs) == ["error (rank 1): asked for"]
    assert "Traceback" not in "".join(job.text for job in jobs)


def test_a_bad_image_is_said_once_whichever_process_meets_it(
    nursery: Any, score_flags: Callable[[Path], list[str]], run_dir: Path, own_splits: Path
) -> None:
    path = own_splits / "A_test" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])
    flags = [*score_flags(run_dir), f"--in_ids={own_splits / 'A_test.csv'}", "--cache_data=0"]
    jobs = nursery.group(2, "reconstruct", *flags, "--run_val=0", "--run_out=0")
    assert {job.wait() for job in jobs} <= {1, 2}
    (sentence,) = errors(jobs)
    assert "A_test/1.png" in sentence
    assert "Traceback" not in "".join(job.text for job in jobs)


def test_a_traceback_of_one_process_is_said_once_with_its_rank_and_ends_all(
    nursery: Any, train_flags: Callable[[Path, Path], list[str]], splits: Path, tmp_path: Path
) -> None:
    flags = train_flags(tmp_path / "A", splits)
    jobs = nursery.group(3, "train_ddpm", *flags, FAULT="raise@2", FAULT_RANK="2")
    assert [job.wait() for job in jobs] == [1, 1, 1]
    text = "".join(job.text for job in jobs)
    assert text.count("Traceback (most recent call last)") == 1
    assert text.count("ZeroDivisionError: asked for") == 1
    assert errors(jobs) == ["error (rank 2): Traceback (most recent call last):"]


def test_a_second_job_in_processes_leaves_the_first_ones_parts_alone(
    nursery: Any, score_flags: Callable[[Path], list[str]], run_dir: Path
) -> None:
    flags = [*score_flags(run_dir), "--run_val=0", "--run_out=0", "--batch_size=1"]
    first = nursery.group(2, "reconstruct", *flags, FAULT="SIGSTOP@1", FAULT_RANK="1")
    first[1].wait_for(first[1].is_stopped)
    second = nursery.group(2, "reconstruct", *flags)
    assert [job.wait() for job in second] == [2, 1]
    (sentence,) = errors(second)
    assert f"(process {first[0].pid} on " in sentence
    os.kill(first[1].pid, signal.SIGCONT)
    assert [job.wait() for job in first] == [0, 0]
    assert len(pd.read_csv(run_dir / "ood" / "results_in.csv")) == 4 * 6
