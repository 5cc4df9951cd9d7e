"""What training writes to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid


class TrainingLogs:
    """Event files under `train/` and `val/` of a run directory, one point an epoch."""

    def __init__(self, run_dir: Path) -> None:
        self._train = SummaryWriter(str(run_dir / "train"))
        self._val = SummaryWriter(str(run_dir / "val"))

    def training(self, epoch: int, loss: float, lr: float, images_per_second: float) -> None:
        """The mean training loss of an epoch, its last learning rate and its throughput."""
        values = {"loss": loss, "lr": lr, "images_per_second": images_per_second}
        for name, value in values.items():
            self._train.add_scalar(name, value, epoch)
        self._train.flush()

    def measured(self, epoch: int, values: Mapping[str, float]) -> None:
        """What was measured on images that are not trained on."""
        for name, value in values.items():
            self._val.add_scalar(name, value, epoch)
        self._val.flush()

    def validation(self, epoch: int, loss: float, samples: Tensor) -> None:
        """The validation loss, and samples `(B, C, *S)` in [0, 1] as a grid."""
        if samples.ndim == 5:
            samples = samples[:, :, samples.shape[2] // 2]  # the middle slice of each volume
        self._val.add_image("samples", make_grid(samples, nrow=4, padding=1), epoch)
        self.measured(epoch, {"loss": loss})
