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

import importlib
import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.data.loaders import ImageSet
from diffusion_ood.detection.table_writer import TableWriter
from diffusion_ood.errors import UserError
from diffusion_ood.methods import measure
from diffusion_ood.methods.scores import chosen
from diffusion_ood.runtime import distributed
from diffusion_ood.sampling import samples
from diffusion_ood.training import diffusion_task, run
from diffusion_ood.training.trainer import Batch, Trainer

TRAINING = ("train_ddpm", "train_classifier", "train_vqvae")
ERRORS = {"raise": ZeroDivisionError, "mistake": UserError}

# The commands import these late; imported here, forks need not do it again.
LATE = ("training.classifier_task", "training.autoencoder_task", "scoring.run")
for late in (*LATE, "scoring.pictures", "report.logs"):
    importlib.import_module(f"diffusion_ood.{late}")


def main() -> None:
    """Run the command that the first argument names."""
    name, *argv = sys.argv[1:]
    command = importlib.import_module(f"diffusion_ood.commands.{name}")
    diffusion_task.SAMPLE_STEPS = 2
    here = os.environ.get("FAULT_RANK", "0") == os.environ.get("RANK", "0")
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    faulty = here and os.environ.get("FAULT_ATTEMPT", "0") == attempt
    strike = striker(os.environ.get("FAULT", "") if faulty else "")
    if name in TRAINING:
        strike_in_training(strike)
    else:
        strike_in_scoring(strike)
    if "SAVE_EVERY" in os.environ:
        save_every(int(os.environ["SAVE_EVERY"]))
    if "FLOAT64" in os.environ:
        compute_in_float64()
    if "MEMORY" in os.environ:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (int(os.environ["MEMORY"]) << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cli.run(lambda: command.main(argv))


def striker(fault: str) -> Callable[[], None]:
    """A function that sends a signal or raises an error, for `name@k` at its call number k."""
    name, _, times = fault.partition("@")
    left = iter(range(int(times or 0) - 1, -1, -1))

    def strike() -> None:
        if next(left, None) == 0:
            if name in ERRORS:
                raise ERRORS[name]("asked for")
            os.kill(os.getpid(), signal.Signals[name])

    return strike


def strike_in_training(strike: Callable[[], None]) -> None:
    """Let training call `strike` after each step, or with FAULT_AT=log after each logged epoch."""
    learn, log = Trainer._learn, run.log_values

    def learning(self: Trainer, batch: Batch) -> Tensor:
        loss = learn(self, batch)
        strike()
        return loss

    def logging(*given: Any, **values: float) -> None:
        log(*given, **values)
        strike()

    if os.environ.get("FAULT_AT") == "log":
        run.log_values = logging  # in a process of its own
    else:
        Trainer._learn = learning  # type: ignore[method-assign]


def strike_in_scoring(strike: Callable[[], None]) -> None:
    """Let scoring and sampling call `strike` after each saved batch, without what is dear."""
    append, draw = TableWriter.append, samples.draw

    def appending(self: TableWriter, rows: pd.DataFrame) -> None:
        append(self, rows)
        strike()

    def drawing(*given: Any, **more: Any) -> Iterator[Any]:
        for drawn in draw(*given, **more):
            yield drawn
            strike()

    chosen.find_alexnet_features = lambda path=None: None
    measure.GATHER_S = float(os.environ.get("GATHER", measure.GATHER_S))
    TableWriter.append = appending  # type: ignore[method-assign]
    samples.draw = drawing


def save_every(steps: int) -> None:
    """Let training count steps in place of seconds."""
    any_rank, count = distributed.any_rank, itertools.count(1)
    distributed.any_rank = lambda stop, _: any_rank(stop, next(count) % steps == 0)


def compute_in_float64() -> None:
    """Let networks have weights, and see images and noise, in double precision."""
    torch.set_default_dtype(torch.float64)
    batch, noise = ImageSet.batch, samples.image_noise
    ImageSet.batch = lambda *given: batch(*given).double()  # type: ignore[method-assign]
    samples.image_noise = lambda *given: noise(*given).double()


if __name__ == "__main__":
    main()
