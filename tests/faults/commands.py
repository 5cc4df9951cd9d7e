"""The commands as their scripts run them, without what is dear, and with the faults asked for.

    commands.py NAME FLAGS…

FAULT=signal@step in the environment sends this process a signal after so many training steps, or
so many saved batches of images, or of samples, or, with FAULT_AT=log, after so many logged epochs;
FAULT=raise@step and FAULT=mistake@step raise an error there. With FAULT_RANK and FAULT_ATTEMPT only
in that process of a group, and after so many of torchrun's restarts.
SAVE_EVERY=N saves after every N-th step, without a clock. GATHER=N lets finished images wait for so
many seconds. With FLOAT64 everything is computed in double precision, which the commands have no
flag for. MEMORY=N lets the process have so many MiB more than it has.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.commands import (
    measuring,
    reconstruct,
    sample,
    train_classifier,
    train_ddpm,
    training_run,
)
from diffusion_ood.commands.drawing import Drawing
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.detection.parts import TableWriter
from diffusion_ood.errors import UserError
from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.trainer import Trainer

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train_ddpm": train_ddpm.main,
    "train_classifier": train_classifier.main,
    "reconstruct": reconstruct.main,
    "sample": sample.main,
}
ERRORS = {"raise": ZeroDivisionError, "mistake": UserError}


def main() -> None:
    """Run the command that the first argument names."""
    name, *argv = sys.argv[1:]
    train_ddpm.SAMPLE_STEPS = 2
    reconstruct.find_alexnet_features = lambda path=None: None
    here = os.environ.get("FAULT_RANK", "0") == os.environ.get("RANK", "0")
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if here and "FAULT" in os.environ and os.environ.get("FAULT_ATTEMPT", "0") == attempt:
        number, _, step = os.environ["FAULT"].partition("@")
        fault_after(int(step), number)
    if "SAVE_EVERY" in os.environ:
        save_every(int(os.environ["SAVE_EVERY"]))
    if "FLOAT64" in os.environ:
        compute_in_float64()
    measuring.GATHER_S = float(os.environ.get("GATHER", measuring.GATHER_S))
    if "MEMORY" in os.environ:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (int(os.environ["MEMORY"]) << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cli.run(lambda: COMMANDS[name](argv))


def fault_after(times: int, name: str) -> None:
    """Let this process get a signal, or raise, after so many steps or batches."""
    left = iter(range(times - 1, -1, -1))
    learn, append, draw = Trainer._learn, TableWriter.append, Drawing.run
    log = TrainingLogs.training

    def learning(self: Trainer, n: int, *tensors: Tensor) -> Tensor:
        loss = learn(self, n, *tensors)
        strike()
        return loss

    def appending(self: TableWriter, rows: pd.DataFrame) -> None:
        append(self, rows)
        strike()

    def drawing(self: Drawing, trajectories: Any) -> Iterator[Any]:
        for drawn in draw(self, trajectories):
            yield drawn
            strike()

    def logging(self: TrainingLogs, *values: Any) -> None:
        log(self, *values)
        strike()

    def strike() -> None:
        if next(left, None) == 0:
            if name in ERRORS:
                raise ERRORS[name]("asked for")
            os.kill(os.getpid(), signal.Signals[name])

    if os.environ.get("FAULT_AT") == "log":
        TrainingLogs.training = logging  # type: ignore[method-assign] # in a process of its own
        return
    Trainer._learn = learning  # type: ignore[method-assign]
    TableWriter.append = appending  # type: ignore[method-assign]
    Drawing.run = drawing  # type: ignore[method-assign]


def save_every(steps: int) -> None:
    """Let training's clock count steps in place of seconds."""

    class Counter(training_run.Clock):
        count = 0

        def rings(self) -> bool:
            self.count += 1
            return self.count % steps == 0

    training_run.Clock = Counter  # type: ignore[misc]


def compute_in_float64() -> None:
    """Let networks have weights, and see images and noise, in double precision."""
    torch.set_default_dtype(torch.float64)
    batch, noise = ImageSet.batch, train_ddpm.image_noise
    ImageSet.batch = lambda *given: batch(*given).double()  # type: ignore[method-assign]
    train_ddpm.image_noise = lambda *given: noise(*given).double()


if __name__ == "__main__":
    main()
