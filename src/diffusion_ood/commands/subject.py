"""What a run of training trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from diffusion_ood.training.logs import TrainingLogs
from diffusion_ood.training.trainer import Trainer


class Subject(Protocol):
    """What is trained, and all that is particular to it."""

    network: nn.Module
    """On its device; the trainer changes its weights."""

    labels: Tensor | None
    """The class of each training image (N,), for a network that learns classes."""

    groups: Sequence[type]
    """The options that its checkpoint holds."""

    identity: Mapping[str, Any]
    """What a checkpoint says of it beside the options, and a later run must agree with."""

    def trainer(self, steps_per_epoch: int) -> Trainer:
        """Its trainer, at step 0."""

    def augment(self, images: Tensor, numbers: Sequence[int], epoch: int) -> Tensor:
        """A training batch `(b, C, *S)` of these numbers in the split, as this epoch learns it."""

    def validate(self, network: nn.Module, epoch: int, logs: TrainingLogs | None) -> float:
        """What the best checkpoint has the least of, by a network of the averaged weights."""

    def findings(self) -> Mapping[str, Any]:
        """What validation found that the checkpoint is to hold."""
