"""torchrun itself: it restarts after a kill, forwards a stop, and ends when one process fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diffusion_ood.runtime.checkpoint import load_checkpoint

COMMANDS = Path(__file__).parent / "commands.py"
PACKAGES = str(Path(__file__).parents[2] / "src")
PATIENCE_S = 240
END_WITHIN_S = 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sends signals")


def torchrun(*argv: str, restarts: int = 0, **env: str) -> subprocess.Popen[str]:
    """Start a command of `commands.py` in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *launcher, f"--max_restarts={restarts}", COMMANDS, *argv],
        env={**os.environ, "PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_mistake_above_rank_0_ends_the_job_soon_and_is_said_once(
    score_flags: Callable[[Path], list[str]], run_dir: Path
) -> None:
    job = torchrun(
        "reconstruct", *score_flags(run_dir), "--batch_size=1", FAULT="mistake@1", FAULT_RANK="1"
    )
    assert job.stdout is not None
    text, said = "", 0.0
    for line in job.stdout:
        text += line
        if line.startswith("error"):
            said = time.monotonic()
    assert job.wait(PATIENCE_S) == 1  # torchrun's own, whatever its processes end with
    assert time.monotonic() - said < END_WITHIN_S
    assert re.findall(r"^error.*", text, re.MULTILINE) == ["error (rank 1): asked for"]
    assert "rank      : 1 (local_rank: 1)\n  exitcode  : 2" in text  # torchrun's summary


def test_a_killed_process_is_restarted_and_a_stopped_job_is_saved(
    train_flags: Callable[[Path, Path], list[str]], splits: Path, tmp_path: Path
) -> None:
    """Rank 1 is killed at step 5; later torchrun is asked to stop, and passes it on."""
    run_dir = tmp_path / "A"
    flags = ["train_ddpm", *train_flags(run_dir, splits), "--n_epochs=300", "--eval_freq=300"]
    job = torchrun(*flags, restarts=1, SAVE_EVERY="1", FAULT="SIGKILL@5", FAULT_RANK="1")
    assert job.stdout is not None
    text = ""
    for line in job.stdout:
        text += line
        if line.startswith("epoch 3/300"):
            job.terminate()
    assert job.wait(PATIENCE_S) == 1  # torchrun's own, which prints where it was
    assert f"{run_dir / 'checkpoint.pth'} after epoch 1 and 1 step" in text
    (said,) = re.findall(r"stopped after epoch (\d+)(?: and (\d+) steps?)?", text)
    content = load_checkpoint(run_dir / "checkpoint.pth")
    assert (content["epoch"], len(content["losses"])) == (int(said[0]), int(said[1] or 0))
    assert content["trainer"]["step"] == 3 * content["epoch"] + len(content["losses"])
