"""Training that is stopped, killed, torn or taken twice goes on as if nothing had happened."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_ood.runtime.checkpoint import load_checkpoint

# Four epochs of three steps; a validation every second one.
FLAGS = ["--n_epochs=4", "--eval_freq=2"]
OWN_FLAGS = {
    "train_ddpm": ["--ema_decay=0.9", "--lr_schedule=cosine"],
    "train_classifier": [],
    "train_vqvae": ["--vqvae_decay=0.5"],  # codes die within the run
}


def weights(run_dir: Path) -> dict[str, Tensor]:
    """The averaged weights, the network's, and the optimiser's moments."""
    trainer = load_checkpoint(run_dir / "checkpoint.pth")["trainer"]
    moments = trainer["optimizer"]["state"]
    return {
        **{f"average {name}": weight for name, weight in (trainer["average"] or {}).items()},
        **{f"network {name}": weight for name, weight in trainer["network"].items()},
        **{f"moment {k} {name}": m for k in moments for name, m in moments[k].items()},
    }


def assert_equal_to_the_bit(found: Path, expected: Path) -> None:
    a, b = weights(found), weights(expected)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture(scope="module", params=OWN_FLAGS)
def flags(
    request: pytest.FixtureRequest, training: Callable[..., list[str]]
) -> Callable[..., list[str]]:
    """The command line that trains in a run directory, of each command in turn."""
    own = OWN_FLAGS[request.param]
    return lambda run_dir, *more: training(request.param, run_dir, *FLAGS, *own, *more)


@pytest.fixture(scope="module")
def uninterrupted(nursery: Any, flags: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training that nothing happened to."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    job = nursery.start(*flags(run_dir))
    assert job.wait() == 0, job.text
    (run_dir / "log").write_text(job.text)
    return run_dir


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty run directory."""
    return tmp_path / "runs" / "A"


def losses(text: str) -> list[str]:
    """What was said of each epoch's losses."""
    return re.findall(r"(epoch \d/4  loss \S+(?:  validation \S+)?)", text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_ends_with_its_own_code(
    number: signal.Signals, nursery: Any, flags: Any, run_dir: Path, uninterrupted: Path
) -> None:
    stopped = nursery.start(*flags(run_dir), FAULT=f"{number.name}@5")
    assert stopped.wait() == -number  # a shell shows 143 and 130
    assert "epoch 1 and 2 steps" in stopped.text
    assert "Traceback" not in stopped.text
    content = load_checkpoint(run_dir / "checkpoint.pth")
    assert (content["epoch"], len(content["losses"]), content["trainer"]["step"]) == (1, 2, 5)
    again = nursery.start(*flags(run_dir))
    assert again.wait() == 0
    assert "epoch 1 and 2 steps" in again.text
    assert_equal_to_the_bit(run_dir, uninterrupted)
    assert losses(stopped.text + again.text) == losses((uninterrupted / "log").read_text())


def test_a_signal_at_the_end_of_an_epoch_is_told_too(
    nursery: Any, flags: Any, run_dir: Path
) -> None:
    """It comes when the epoch is saved and logged, and before the next one begins."""
    argv = [*flags(run_dir), "--eval_freq=4"]
    stopped = nursery.start(*argv, FAULT="SIGTERM@2", FAULT_AT="log")
    assert stopped.wait() == -signal.SIGTERM
    assert "stopped after epoch 2" in stopped.text
    content = load_checkpoint(run_dir / "checkpoint.pth")
    assert (content["epoch"], len(content["losses"])) == (2, 0)


def test_kills_lose_no_step_before_the_last_save(
    nursery: Any, flags: Any, run_dir: Path, uninterrupted: Path
) -> None:
    """Each process is killed in its fifth step, and has saved after the fourth."""
    starts = []
    for _ in range(2):
        killed = nursery.start(*flags(run_dir), FAULT="SIGKILL@5", SAVE_EVERY="1")
        assert killed.wait() == -signal.SIGKILL
        starts.append(load_checkpoint(run_dir / "checkpoint.pth")["trainer"]["step"])
    assert starts == [4, 8]
    assert nursery.start(*flags(run_dir), SAVE_EVERY="1").wait() == 0
    assert_equal_to_the_bit(run_dir, uninterrupted)
    assert not list(run_dir.glob(".*.tmp"))


def test_a_torn_checkpoint_gives_way_to_the_one_before(
    nursery: Any, flags: Any, run_dir: Path, uninterrupted: Path
) -> None:
    assert nursery.start(*flags(run_dir), FAULT="SIGKILL@9").wait() == -signal.SIGKILL
    last = run_dir / "checkpoint.pth"
    os.truncate(last, last.stat().st_size - 1000)
    again = nursery.start(*flags(run_dir))
    assert again.wait() == 0
    assert "checkpoint.pth: " in again.text
    assert_equal_to_the_bit(run_dir, uninterrupted)


def test_two_damaged_checkpoints_are_one_sentence(nursery: Any, flags: Any, run_dir: Path) -> None:
    assert nursery.start(*flags(run_dir), FAULT="SIGKILL@9").wait() == -signal.SIGKILL
    for name in ("checkpoint.pth", "checkpoint_previous.pth"):
        os.truncate(run_dir / name, 1000)
    again = nursery.start(*flags(run_dir))
    assert again.wait() == 2
    (sentence,) = [line for line in again.text.splitlines() if line.startswith("error: ")]
    assert "checkpoint_previous.pth: " in sentence
    assert "Traceback" not in again.text


@pytest.mark.parametrize(("done", "loss"), [(4, "training"), (5, "validation")])
def test_a_loss_that_is_no_number_stops_it_and_the_last_checkpoint_stays(
    done: int, loss: str, nursery: Any, flags: Any, run_dir: Path, uninterrupted: Path
) -> None:
    """The step after a far too large one has no loss; after an epoch's last it is validation's."""
    assert nursery.start(*flags(run_dir), FAULT=f"SIGTERM@{done}").wait() == -signal.SIGTERM
    before = (run_dir / "checkpoint.pth").read_bytes()
    hasty = nursery.start(*flags(run_dir, "--lr=1e30"))
    assert hasty.wait() == 2
    (sentence,) = [line for line in hasty.text.splitlines() if line.startswith("error: ")]
    assert re.search(rf"{loss} loss .*(nan|inf).* epoch 2.*--lr", sentence)
    assert "Traceback" not in hasty.text
    assert (run_dir / "checkpoint.pth").read_bytes() == before
    assert nursery.start(*flags(run_dir)).wait() == 0
    assert_equal_to_the_bit(run_dir, uninterrupted)


def test_one_job_trains_in_a_run_directory_and_a_dead_one_holds_nothing(
    nursery: Any, flags: Any, run_dir: Path
) -> None:
    first = nursery.start(*flags(run_dir), FAULT="SIGSTOP@2")
    first.wait_for(first.is_stopped)
    second = nursery.start(*flags(run_dir))
    assert second.wait() == 2
    holder = f"commands.py (process {first.pid} on {socket.gethostname()})"
    assert f"{run_dir}: {holder}" in second.text
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert nursery.start(*flags(run_dir, "--n_epochs=1")).wait() == 0


def test_a_checkpoint_amid_an_epoch_wants_the_same_batches(
    nursery: Any, flags: Any, run_dir: Path
) -> None:
    assert nursery.start(*flags(run_dir), FAULT="SIGTERM@5").wait() == -signal.SIGTERM
    other = nursery.start(*flags(run_dir, "--batch_size=3"))
    assert other.wait() == 2
    assert f"error: {run_dir / 'checkpoint.pth'}: " in other.text
    assert "batch_size 3" in other.text
