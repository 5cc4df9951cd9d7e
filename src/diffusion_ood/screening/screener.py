"""A screening into a folder, for programs that are put together from parts, such as MONAI bundles.

The configurations of exported bundles name this class: its arguments stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_ood.detector import Detector
from diffusion_ood.runtime.lock import locked
from diffusion_ood.screening.batch import Batch, consider, sentences
from diffusion_ood.screening.decisions import LEFTOVERS, DecisionFile, begin
from diffusion_ood.screening.inputs import Item, for_model
from diffusion_ood.screening.report import write_results
from diffusion_ood.screening.run import screen


@dataclass(frozen=True)
class Screener:
    """Screens images as `diffusion-ood screen` does, in one process; `run` again goes on.

    Args:
        detector: decides.
        images: of `screening.inputs.gather`.
        output_dir: folder of decisions.csv and report.html.
        name: of the detector, for the report.
        num_shown: how many of the most unusual images the report shows.
    """

    detector: Detector
    images: Sequence[Item]
    output_dir: str | Path
    name: str = "detector"
    num_shown: int = 24

    def run(self) -> Batch:
        """Decide on all images, write the files, and say what was found.

        Raises:
            UserError: the folder holds decisions of another detector, or another job writes there.
        """
        folder = Path(self.output_dir)
        images = for_model(self.images, self.detector.content.diffusion.image_options)
        with locked(folder, *LEFTOVERS):
            begin(folder, self.detector.digest)
            with DecisionFile(folder) as file:
                decisions = screen(self.detector, images, file)
            batch = consider(self.detector, decisions, images)
            written = write_results(
                folder, self.detector, self.name, batch, images, num_shown=self.num_shown
            )
        doubts = (f"warning: {doubt}" for doubt in batch.doubts)
        print("\n".join([*sentences(batch), *doubts, *written]))
        return batch
