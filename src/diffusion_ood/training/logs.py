"""The logs of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torchvision.utils import make_grid

from diffusion_ood.report.logs import Tracker
from diffusion_ood.report.provenance import training_options


class TrainingLogs:
    """Points of the groups `train` and `val`, one an epoch.

    Args:
        tracker: where they are written.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def begin(self, config: Mapping[str, Mapping[str, Any]]) -> None:
        """Log the options, as in `config.json`."""
        self._tracker.compare(training_options(config), {})
        self._tracker.flush()

    def training(self, epoch: int, loss: float, lr: float, images_per_second: float) -> None:
        """Log an epoch's mean training loss, last learning rate and throughput."""
        values = {"loss": loss, "lr": lr, "images_per_second": images_per_second}
        self._scalars("train", values, epoch)

    def measured(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log values of the validation."""
        self._scalars("val", values, epoch)

    def validation(self, epoch: int, loss: float, samples: Tensor) -> None:
        """Log the validation loss, and samples `(B, C, *S)` in [0, 1] as a grid."""
        if samples.ndim == 5:
            samples = samples[:, :, samples.shape[2] // 2]  # the middle slice of each volume
        grid = make_grid(samples, nrow=4, padding=1)
        pixels = (255 * grid).clamp(0, 255).byte().permute(1, 2, 0).numpy()
        self._tracker.image("val", "samples", pixels, epoch)
        self.measured(epoch, {"loss": loss})

    def close(self) -> None:
        """Close the tracker."""
        self._tracker.close()

    def _scalars(self, group: str, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._tracker.scalar(group, name, value, epoch)
        self._tracker.flush()
