"""A folder's lock: one job at a time, and none once its process is gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.lock import locked

# Holds the lock, with a forked loader's worker beside it, until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from torch.utils.data import DataLoader
from diffusion_ood.runtime.lock import locked

class Slow(list):
    def __getitem__(self, index):
        time.sleep(2 * index)
        return index

with locked(Path(sys.argv[1]), "*.tmp"):
    batches = iter(DataLoader(Slow(range(30)), 1, num_workers=1, multiprocessing_context="fork"))
    next(batches)
    print(batches._workers[0].pid, flush=True)
    time.sleep(60)
"""


def test_a_second_job_is_refused_and_the_first_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with locked(folder, "*.tmp"):
        with pytest.raises(UserError) as error, locked(folder, "*.tmp"):
            pass
        assert str(folder) in str(error.value)
        assert f"process {os.getpid()}" in str(error.value)
    with locked(folder, "*.tmp"):
        assert (folder / ".lock").exists()


def test_leftovers_are_removed(tmp_path: Path) -> None:
    for name in ("a.tmp", "b.csv"):
        (tmp_path / name).touch()
    with locked(tmp_path, "*.tmp"):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "b.csv"}


@pytest.mark.skipif(sys.platform == "win32", reason="kills and forks")
def test_a_killed_job_leaves_no_lock_even_where_its_worker_outlives_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        worker = int(job.stdout.readline())
        with pytest.raises(UserError), locked(tmp_path, "*.tmp"):
            pass
        job.kill()
        job.wait()
        os.kill(worker, signal.SIGSTOP)  # so that it does outlive it
        try:
            time.sleep(0.1)
            with locked(tmp_path, "*.tmp"):
                os.kill(worker, 0)
        finally:
            os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_where_nothing_can_be_locked_work_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with locked(tmp_path, "*.tmp"):
        assert str(tmp_path) in capsys.readouterr().out
