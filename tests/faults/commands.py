"""The commands as their scripts run them, without what is dear, and with the faults asked for.

    commands.py NAME FLAGS…

FAULT=signal@step in the environment sends this process a signal after so many training steps, or
so many saved batches of images; FAULT=raise@step and FAULT=mistake@step raise an error there. With
FAULT_RANK and FAULT_ATTEMPT only in that process of a group, and after so many of torchrun's
restarts.
SAVE_EVERY=N saves after every N-th step, without a clock.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

import pandas as pd
from torch import Tensor

from diffusion_ood import cli
from diffusion_ood.commands import reconstruct, sample, train_classifier, train_ddpm, training_run
from diffusion_ood.detection.parts import TableWriter
from diffusion_ood.errors import UserError
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
    cli.run(lambda: COMMANDS[name](argv))


def fault_after(times: int, name: str) -> None:
    """Let this process get a signal, or raise, after so many steps or batches."""
    left = iter(range(times - 1, -1, -1))
    learn, append = Trainer._learn, TableWriter.append

    def learning(self: Trainer, n: int, *tensors: Tensor) -> Tensor:
        loss = learn(self, n, *tensors)
        strike()
        return loss

    def appending(self: TableWriter, rows: pd.DataFrame) -> None:
        append(self, rows)
        strike()

    def strike() -> None:
        if next(left, None) == 0:
            if name in ERRORS:
                raise ERRORS[name]("asked for")
            os.kill(os.getpid(), signal.Signals[name])

    Trainer._learn = learning  # type: ignore[method-assign] # in a process of its own
    TableWriter.append = appending  # type: ignore[method-assign]


def save_every(steps: int) -> None:
    """Let training's clock count steps in place of seconds."""

    class Counter(training_run.Clock):
        count = 0

        def rings(self) -> bool:
            self.count += 1
            return self.count % steps == 0

    training_run.Clock = Counter  # type: ignore[misc]


if __name__ == "__main__":
    main()
