"""TensorBoard's event files, written with its own classes, as torch's writer needs torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.pr_curve import metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from diffusion_ood.report.curves import NUM_THRESHOLDS, pr_table
from diffusion_ood.report.pictures import png
from diffusion_ood.runtime.files import as_text


class TensorBoard:
    """Event files, a folder for each group.

    Args:
        folder: of all groups, such as `output_dir/model_name/ood/tensorboard`.
        command: whose files these are.
        trial: the name of the row in the table of hyperparameters.
        goes_on: whether earlier points of the command stay; else its files are replaced. Of the run
            itself the last word counts, either way.
    """

    def __init__(self, folder: Path, command: str, trial: str, *, goes_on: bool = False) -> None:
        self._folder = folder
        self._trial = trial
        self._suffix = f".{command}"
        self._goes_on = goes_on
        self._writers: dict[str, Any] = {}

    def scalar(self, group: str, tag: str, value: float, step: int = 0) -> None:
        """One number, as TensorBoard's scalar."""
        self._add(group, step, tag=tag, simple_value=value)

    def image(self, group: str, tag: str, pixels: NDArray[np.uint8], step: int = 0) -> None:
        """A picture `(H, W, 1 or 3)`, as PNG."""
        height, width, channels = pixels.shape
        image = Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png(pixels)
        )
        self._add(group, step, tag=tag, image=image)

    def histogram(self, group: str, tag: str, values: ArrayLike, step: int = 0) -> None:
        """The distribution of some numbers, in 30 bins."""
        self._add_summary(group, step, histogram_pb(tag, np.asarray(values, np.float64)))

    def pr_curve(self, group: str, tag: str, truth: ArrayLike, scores: ArrayLike) -> None:
        """Precision against recall of finding what is true by high scores, at their quantiles."""
        about = metadata.create_summary_metadata(
            display_name=tag, description="", num_thresholds=NUM_THRESHOLDS
        )
        table = make_tensor_proto(pr_table(truth, scores).astype(np.float32))
        self._add(group, 0, tag=tag, metadata=about, tensor=table)

    def compare(self, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """A row of TensorBoard's table of hyperparameters, to compare runs by."""
        # Without a list of all parameters and metrics TensorBoard makes it itself, of all runs.
        self._add_summary("", 0, hparams.hparams_pb(_as_text(parameters), self._trial))
        for tag, value in metrics.items():
            self.scalar("", tag, value)

    def flush(self) -> None:
        """Write what is not written yet."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Write what is not written yet, and close the files."""
        for writer in self._writers.values():
            writer.close()

    def _add(self, group: str, step: int, **value: Any) -> None:  # noqa: ANN401 - a message's fields
        self._add_summary(group, step, Summary(value=[Summary.Value(**value)]))

    def _add_summary(self, group: str, step: int, summary: Any) -> None:  # noqa: ANN401 - a message
        if group not in self._writers:
            folder = self._folder / group
            earlier = folder.glob(f"events.out.tfevents.*{self._suffix}")
            for old in () if self._goes_on and group else earlier:
                old.unlink()
            self._writers[group] = EventFileWriter(str(folder), filename_suffix=self._suffix)
        event = Event(wall_time=time.time(), step=step, summary=summary)
        self._writers[group].add_event(event)


def _as_text(parameters: Mapping[str, str]) -> dict[str, str]:
    """What a message takes: names of files may hold what is no text, and are escaped."""
    return {name: as_text(str(value)) for name, value in parameters.items()}
