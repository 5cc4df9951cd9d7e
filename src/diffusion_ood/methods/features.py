"""How far the network's inner activations are from those of training images.

While the network looks at a noisy image, the channels of its blocks are averaged over a grid of
places, which tells a turned image from an upright one, and their deviations over space are taken.
Their Mahalanobis distance from those of reference images is a column for each block. One call at a
level that leaves nearly all of the image (log-SNR 5) is what CFS takes (arXiv 2605.11014): with
channel means and deviations of one block of the encoder and one of the decoder, and a variance for
each of them alone. That is the column `channels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_ood.diffusion.levels import nearest_level
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.gaussians import RANK, Gaussian, Matrix, Standard, of_state
from diffusion_ood.methods.pointwise import Answer, Answers, Point, PointwiseMethod, ask
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import MIN_REFERENCE
from diffusion_ood.runtime.words import counted
from diffusion_ood.trajectories.evaluator import Evaluator

BLOCKS = (
    "down_blocks.1.resnets.0",
    "middle_block",
    "up_blocks.0.resnets.1",
    "up_blocks.1.resnets.1",
)
"""Of every size of the U-Net; the finest ones are left out."""

CFS = BLOCKS[0], BLOCKS[-1]
"""Those of CFS: the coarsest of the encoder above the lowest resolution, the finest of the decoder
below the full one."""

LOG_SNR = 5.0
"""Of the published level of CFS."""

POOLED = "@pooled"


@dataclass(kw_only=True, eq=False)
class Features(PointwiseMethod):
    """Distances of activations from those of reference images, a row for each level.

    Args:
        log_snrs: of the levels, as those of images in [-1, 1].
        blocks: names of the network's blocks.
        seed: of the noise.
        reference: what was fitted by (level, block), see `learn`.
    """

    name = "features"
    learns = True
    form = f"rank {RANK}"

    log_snrs: Sequence[float] = (LOG_SNR,)
    block_names: Sequence[str] = BLOCKS
    seed: int = 2
    reference: Mapping[tuple[int, str], Standard] = field(default_factory=dict)

    @classmethod
    def from_options(cls, options: ReconstructOptions) -> Features:
        """As `reconstruct.py` is asked for it."""
        return cls(seed=options.seed)

    @property
    def columns(self) -> tuple[str, ...]:
        """One for each block, and that of CFS."""
        names = [name.replace(".", "_") for name in self.block_names]
        return (*(f"{name}_distance" for name in names), "channels")

    def levels(self, diffusion: Diffusion) -> tuple[int, ...]:
        """The levels t, rising."""
        found = (
            nearest_level(diffusion.schedule, diffusion.codec.limits, wanted)
            for wanted in self.log_snrs
        )
        return tuple(sorted(set(found)))

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """Every level."""
        return [(t, 0) for t in self.levels(diffusion)]

    def settings(self, diffusion: Diffusion) -> dict[str, Any]:
        """The levels, the blocks and the seed; what was learned is noted by who lets it learn."""
        levels = list(self.levels(diffusion))
        return {"levels": levels, "blocks": list(self.block_names), "seed": self.seed}

    def blocks(self, diffusion: Diffusion) -> Sequence[str]:
        """Whose activations are looked at."""
        return self.block_names

    def points(self, diffusion: Diffusion) -> Sequence[Point]:
        """The noisy image at every level."""
        return [Point(t) for t in self.levels(diffusion)]

    def learn(self, batches: Iterable[ImageBatch], evaluator: Evaluator) -> None:
        """Fit to reference images, which are best those that the model was trained on.

        Raises:
            UserError: too few of them.
        """
        found: dict[tuple[int, str], list[Matrix]] = {}
        for batch in batches:
            answers = ask([self], batch, evaluator)
            for point in self.points(evaluator.diffusion):
                for name, values in _features(answers[point]).items():
                    found.setdefault((point.t, name), []).append(values)
        number = sum(map(len, next(iter(found.values()), [])))
        if number < MIN_REFERENCE:
            images = counted(number, "image")
            raise UserError(f"`reference_ids`: found {images}, expected at least {MIN_REFERENCE}")
        self.reference = {
            (t, name): (Standard if POOLED in name else Gaussian).fit(np.concatenate(values))
            for (t, name), values in found.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as arrays by name."""
        return {
            f"{t}/{name}/{part}": value
            for (t, name), one in self.reference.items()
            for part, value in one.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, or that of versions which kept whole covariances."""
        parts: dict[tuple[int, str], dict[str, Any]] = {}
        for key, value in state.items():
            t, name, part = key.split("/")
            parts.setdefault((int(t), name), {})[part] = value
        self.reference = {key: of_state(found) for key, found in parts.items()}

    @torch.inference_mode()
    def compute(self, batch: ImageBatch, evaluator: Evaluator, answers: Answers) -> Tensor:
        """Every column, `(n, draws, columns)`."""
        rows = []
        for point in self.points(evaluator.diffusion):
            features = _features(answers[point])
            known = {name: self.reference[point.t, name] for name in features}
            columns = [known[name].distance(features[name]) for name in self.block_names]
            channels = [known[name].mean_square(features[name]) for name in known if POOLED in name]
            rows.append(np.stack([*columns, np.mean(channels, 0)], 1))
        return torch.from_numpy(np.stack(rows, 1))


def _features(answer: Answer) -> dict[str, Matrix]:
    """Of each block `(n, D)`, and of those of CFS also their means over all places."""
    found = {}
    for name, of_block in answer.statistics.items():
        values = of_block.cpu()
        found[name] = values.flatten(1).numpy()
        if name in CFS:
            means = values[:, :, :-1].mean(2)
            found[f"{name}{POOLED}"] = torch.cat([means, values[:, :, -1]], 1).numpy()
    return found
