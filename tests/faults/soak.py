"""Random faults against training and scoring in two processes, until enough were survived.

Rounds of a small training and the scoring by its model, under the agent of torchrun, which restarts
its processes. Meanwhile a process is killed or asked to stop, the whole job is, and files are torn
while it is down. A round ends when both have ended well; then the weights and the tables have to be
those of a round without faults.

Everything is imported once and every process is a fork, so that the time goes into faults.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from diffusion_ood import cli
from diffusion_ood.methods.scores import chosen
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.training import diffusion_task

SIDE, PROCESSES, STARTS, EPOCHS = 8, 2, 10, 12
SIZES = {"train": 24, "val": 6, "in": 12, "out": 16}
PAUSE_S = 0.05
RESTARTS = 1000
GRACE_S = 60  # after SIGTERM, then SIGKILL
GIVE_UP_S = 1800  # a round that takes so long hangs
BAD_INPUTS = ("test_bad_input.py", "test_bad_flags.py")
GOOD_INPUTS = (  # tests among them of what is odd, and has to work
    "test_a_split_in_another_writing_gives_the_same_table",
    "test_a_million_rows",
    "test_an_image_in_another_format_gives_the_same_scores",
    "test_a_constant_image_is_scored",
    "test_any_name_is_a_name",
    "test_a_flipped_set_shares_its_files",
)


def main() -> None:
    """Soak, print what came of it, and fail when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="at least so long")
    parser.add_argument("--faults", type=int, default=50, help="and until so many")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--longest_pause", type=float, default=6.0, help="seconds between faults")
    options = parser.parse_args()
    diffusion_task.SAMPLE_STEPS = 2
    chosen.find_alexnet_features = lambda path=None: None
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), random.Random(options.seed), options.longest_pause)
        code = soak.run(options.minutes, options.faults)
    tried, answered = bad_inputs()
    print(f"bad inputs tried / answered with one sentence: {tried} / {answered}")
    sys.exit(code or int(tried != answered))


class Soak:
    """Rounds with faults beside one without."""

    def __init__(self, folder: Path, rng: random.Random, longest_pause_s: float) -> None:
        self.folder = folder
        self.rng = rng
        self.longest_pause_s = longest_pause_s
        self.faults: collections.Counter[str] = collections.Counter()
        self.survived = self.rows = self.lost = self.doubled = 0
        for set_, size in SIZES.items():
            write_images(folder / set_, size)

    def run(self, minutes: float, faults: int) -> int:
        """Soak; 0 when nothing was lost."""
        begin = time.monotonic()
        self.round("whole", disturbed=False)
        rounds, same = 0, True
        while time.monotonic() - begin < 60 * minutes or self.faults.total() < faults:
            rounds += 1
            before = self.faults.total()
            self.round(f"round{rounds}", disturbed=True)
            same_now = self.compare(f"round{rounds}")
            self.survived += self.faults.total() - before if same_now else 0
            same &= same_now
            print(f"round {rounds}: {self.report()}", flush=True)
            shutil.rmtree(self.folder / f"round{rounds}")
        print(f"{rounds} rounds in {(time.monotonic() - begin) / 60:.0f} minutes\n{self.report()}")
        return 0 if same else 1

    def report(self) -> str:
        """What has come of it so far."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.faults.items()))
        return (
            f"faults survived / injected: {self.survived} / {self.faults.total()} ({kinds}); rows "
            f"lost {self.lost} of {self.rows}, rows doubled {self.doubled}"
        )

    def round(self, name: str, *, disturbed: bool) -> None:
        """Train and score to the end, whatever it takes."""
        run_dir = self.folder / name
        for argv in (training(self.folder, run_dir), scoring(self.folder, run_dir)):
            end = time.monotonic() + GIVE_UP_S
            while not self.job(run_dir, argv, disturbed):
                assert disturbed, log(run_dir)
                assert time.monotonic() < end, f"hangs: {log(run_dir)}"

    def job(self, run_dir: Path, argv: list[str], disturbed: bool) -> bool:
        """Start a job and disturb it until it ends; whether it has ended well."""
        agent = start(run_dir.with_suffix(".log"), argv)
        while True:
            end = time.monotonic() + self.rng.uniform(0, self.longest_pause_s)
            while not disturbed or time.monotonic() < end:
                found, status = os.waitpid(agent, os.WNOHANG)
                if found:
                    return status == 0
                time.sleep(PAUSE_S)
            if self.strike(agent):
                self.end(agent)
                self.tear(run_dir, trains=argv[0] == "train_ddpm")
                return False

    def end(self, agent: int) -> None:
        """Wait until a job is down; kill it where it is not in time, as schedulers do.

        A signal may reach torch's agent while it holds the lock of Python's logging: its handler
        raises there, the lock stays held, and the agent waits for itself.
        """
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end:
            if os.waitpid(agent, os.WNOHANG)[0]:
                return
            time.sleep(PAUSE_S)
        workers = children(agent)
        for pid in (agent, *workers):
            send(pid, signal.SIGKILL)
        for pid in workers:
            wait_gone(pid)
        os.waitpid(agent, 0)
        self.faults["SIGKILL of an agent that ignored SIGTERM"] += 1

    def strike(self, agent: int) -> bool:
        """Disturb a process or all; whether the job ends by it."""
        whole = self.rng.random() < 0.4
        number = self.rng.choice((signal.SIGKILL, signal.SIGTERM))
        workers = children(agent)
        if not whole and not workers:
            return False
        if not whole:
            send(self.rng.choice(workers), number)
        elif number == signal.SIGTERM:
            send(agent, number)  # which passes it on
        else:
            for pid in (agent, *workers, *children(agent)):
                send(pid, number)
            for pid in workers:
                wait_gone(pid)
        self.faults[f"{number.name} of {'all' if whole else 'one'}"] += 1
        return whole

    def tear(self, run_dir: Path, *, trains: bool) -> None:
        """Cut the end off a file that the job was writing, of most jobs that are down."""
        if not trains:
            files = list((run_dir / "ood").rglob("results_*.csv"))
        elif (run_dir / "checkpoint_previous.pth").exists():  # or nothing could take its place
            files = [run_dir / "checkpoint.pth"]
        else:
            files = []
        files = [path for path in files if path.exists() and path.stat().st_size]
        if not files or self.rng.random() < 0.25:
            return
        path = self.rng.choice(files)
        size = path.stat().st_size
        os.truncate(path, size - self.rng.randint(1, min(size, 500)))
        self.faults["torn file"] += 1

    def compare(self, name: str) -> bool:
        """Whether a round's weights and tables are those of the one without faults."""
        expected, found = (load(self.folder / n / "checkpoint.pth") for n in ("whole", name))
        same = all(torch.allclose(found[k], expected[k], rtol=0, atol=1e-6) for k in expected)
        for table in ("val", "in", "out"):
            a, b = (
                pd.read_csv(self.folder / n / "ood" / f"results_{table}.csv")
                for n in ("whole", name)
            )
            keys = [set(zip(t["filename"], t["t"], strict=True)) for t in (a, b)]
            self.rows += len(a)
            self.lost += len(keys[0] - keys[1])
            self.doubled += len(b) - len(keys[1])
            same &= list(a["filename"]) == list(b["filename"])
            same &= np.allclose(a["mse"], b["mse"], rtol=0, atol=1e-5) if same else False
        return same


def bad_inputs() -> tuple[int, int]:
    """How many bad inputs and flags the tests have, and how many got their one sentence."""
    files = [str(Path(__file__).with_name(name)) for name in BAD_INPUTS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", "--quiet", f"--junit-xml={path}", *files]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        cases = [case for case in ElementTree.parse(path).iter("testcase")]
    cases = [case for case in cases if case.get("name", "").partition("[")[0] not in GOOD_INPUTS]
    failed = sum(
        case.find("failure") is not None or case.find("error") is not None for case in cases
    )
    return len(cases), len(cases) - failed


def write_images(path: Path, number: int) -> None:
    """A folder of grey PNGs and its split."""
    rng = np.random.default_rng(number)
    path.mkdir()
    for k in range(number):
        pixels = rng.integers(0, 256, (SIDE, SIDE)) // (1 if path.name == "out" else 3)
        Image.fromarray(pixels.astype(np.uint8)).save(path / f"{k}.png")
    rows = "".join(f"{path.name}/{k}.png\n" for k in range(number))
    path.with_suffix(".csv").write_text(f"image\n{rows}")


def training(data: Path, run_dir: Path) -> list[str]:
    """The command that trains, and saves every half second."""
    return [
        *("train_ddpm", f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}"),
        *(f"--training_ids={data / 'train.csv'}", f"--validation_ids={data / 'val.csv'}"),
        *("--is_grayscale", "--model_type=tiny", "--batch_size=4", "--lr=1e-3"),
        *(f"--n_epochs={EPOCHS}", "--eval_freq=4", "--ema_decay=0.9", "--lr_schedule=cosine"),
        *("--save_every_minutes=0.008", "--device=cpu", "--compile=off", "--num_workers=0"),
    ]


def scoring(data: Path, run_dir: Path) -> list[str]:
    """The command that scores, an image at a time."""
    return [
        *("reconstruct", f"--output_dir={run_dir.parent}", f"--model_name={run_dir.name}"),
        *(f"--validation_ids={data / 'val.csv'}", f"--in_ids={data / 'in.csv'}"),
        *(f"--out_ids={data / 'out.csv'}", f"--num_inference_steps={STARTS}", "--batch_size=1"),
        "--report_images=2",
        *("--device=cpu", "--compile=off", "--num_workers=0"),
    ]


def start(path: Path, argv: list[str]) -> int:
    """Start torchrun's agent and its processes; the agent's process number."""
    pid = os.fork()
    if pid:
        return pid
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=PROCESSES,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=str(os.getpid()),
        max_restarts=RESTARTS,
        start_method="fork",
    )
    code = 1
    with contextlib.suppress(BaseException):
        elastic_launch(config, work)(argv)
        code = 0
    os._exit(code)


def work(argv: list[str]) -> None:
    """The body of a process of a job."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a program of its own would begin so
    signal.signal(signal.SIGINT, signal.default_int_handler)
    name, *flags = argv
    command = importlib.import_module(f"diffusion_ood.commands.{name}")
    cli.run(lambda: command.main(flags))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except FileNotFoundError:
        return []


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_gone(pid: int) -> None:
    """Wait until a process that is no child of ours has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(PAUSE_S)


def load(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint."""
    return load_checkpoint(path)["weights"]


def log(run_dir: Path) -> str:
    """The end of what a round's jobs have said."""
    return "\n".join(run_dir.with_suffix(".log").read_text().splitlines()[-60:])


if __name__ == "__main__":
    main()
