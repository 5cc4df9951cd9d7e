"""Real processes, cheaply: commands in forks of one that has imported everything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

# A shell starts jobs in the background with SIGINT ignored, which what they start inherits.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
PACKAGES = str(HERE.parents[1] / "src")
PATIENCE_S = 120

SIZES = {
    "train_classifier": ("--classifier_type=narrow", "--num_classes=2"),
    "train_vqvae": ("--model_type=vq_tiny",),
}


class Job:
    """A command in a process of its own."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self._nursery = nursery
        self._status: int | None = None
        self.pid = pid
        self.log = log

    @property
    def text(self) -> str:
        """What it has written to stdout and stderr."""
        return self.log.read_text()

    def status(self) -> int | None:
        """Its exit status as `subprocess` has it, None while it runs."""
        if self._status is None:
            self._status = self._nursery.ask(self.pid)
        return self._status

    def wait(self) -> int:
        """Its exit status."""
        self.wait_for(lambda: self.status() is not None)
        assert self._status is not None
        return self._status

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"waited too long for {self.text}"
            time.sleep(0.02)

    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Nursery:
    """Starts jobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: list[Job] = []
        self._stores: list[TCPStore] = []
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "nursery.py")],
            env={**os.environ, "PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: Any) -> Any:
        """One request and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def start(self, *argv: str, **env: str) -> Job:
        """Start a command of `commands.py`."""
        log = self._folder / f"{len(self._jobs)}.log"
        log.touch()
        job = Job(self, self.ask({"argv": argv, "env": env, "log": str(log)}), log)
        self._jobs.append(job)
        return job

    def group(self, processes: int, *argv: str, **env: str) -> list[Job]:
        """Start a command in processes that find each other as torchrun's do."""
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._stores.append(store)  # it answers as long as it lives
        group = {
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        return [
            self.start(*argv, **group, RANK=str(rank), LOCAL_RANK=str(rank), **env)
            for rank in range(processes)
        ]

    def close(self) -> None:
        """End whatever still runs."""
        for job in self._jobs:
            if job.status() is None:
                os.kill(job.pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture(scope="session")
def labelled(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `splits` whose images have one of two classes."""
    folder = tmp_path_factory.mktemp("labelled") / "data"
    shutil.copytree(splits, folder, ignore=lambda *_: [".cache"])
    for path in folder.glob("*.csv"):
        header, *images = path.read_text().split()
        rows = [f"{image},{'ab'[k % 2]}\n" for k, image in enumerate(images)]
        path.write_text("".join([f"{header},label\n", *rows]))
    return folder


@pytest.fixture(scope="session")
def training(
    train_flags: Callable[[Path, Path], list[str]], splits: Path, labelled: Path
) -> Callable[..., list[str]]:
    """`training(command, run_dir, *more)` is the command line that trains one of the networks."""

    def argv(command: str, run_dir: Path, *more: str) -> list[str]:
        data = labelled if command == "train_classifier" else splits
        flags = train_flags(run_dir, data)
        if command in SIZES:
            flags = [flag for flag in flags if not flag.startswith("--model_type")]
        return [command, *flags, *SIZES.get(command, ()), *more]

    return argv


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts commands as real processes."""
    nursery = Nursery(tmp_path_factory.mktemp("logs"))
    yield nursery
    nursery.close()
