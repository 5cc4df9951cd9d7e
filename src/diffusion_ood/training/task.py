"""The protocol of training tasks: the network, its loss and its validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.trainer import Trainer


class TrainingTask(Protocol):
    """A network and how it is trained and validated."""

    network: nn.Module
    """The network, on its device; the trainer changes its weights."""

    labels: Tensor | None
    """The class of each training image (N,), if the network learns classes."""

    model_options: Sequence[object]
    """The options that a checkpoint stores, and that a resumed run must repeat."""

    metadata: Mapping[str, Any]
    """Further facts of the network that a checkpoint stores, and that a resumed run must repeat."""

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """A new trainer of the network, at step 0."""

    def augment(self, images: Tensor, indices: Sequence[int], epoch: int) -> Tensor:
        """A training batch `(b, C, *S)` with the changes that this epoch makes.

        Args:
            images: the batch, shape `(b, C, *S)` in [0, 1].
            indices: of the images in the training split.
            epoch: counted from 0.
        """

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """The validation loss, which is least in the best checkpoint; NaN if it is not finite.

        Args:
            network: with the weights to evaluate.
            epoch: the number of finished epochs.
            logs: the logs of the main process.
        """

    def metrics(self) -> Mapping[str, Any]:
        """Results of the last validation that the checkpoint stores."""


def index_batches(n: int, size: int, *, only_first: bool = False) -> list[list[int]]:
    """The indices 0 … n − 1 in batches of `size`, or the first batch alone."""
    starts = range(0, 1 if only_first else n, size)
    return [list(range(start, min(start + size, n))) for start in starts]
