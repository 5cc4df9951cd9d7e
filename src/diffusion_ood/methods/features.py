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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from diffusion_ood.diffusion.levels import nearest_level
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.pointwise import Answer, Answers, Point, PointwiseMethod, ask
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import MIN_REFERENCE
from diffusion_ood.runtime.words import counted
from diffusion_ood.trajectories.evaluator import Evaluator

if TYPE_CHECKING:
    from typing_extensions import Self

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

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Gaussian:
    """What reference images' features of one block at one level look like.

    The covariance of the standardised features is shrunken towards the identity (Ledoit and Wolf,
    "A well-conditioned estimator for large-dimensional covariance matrices", 2004).

    Attributes:
        mean, std: of each feature, (D,).
        whitening: takes standardised features to uncorrelated ones of variance 1, (D, D).
    """

    mean: Matrix
    std: Matrix
    whitening: Matrix

    @classmethod
    def fit(cls, features: Matrix) -> Self:
        """Fit to (N, D) features."""
        mean, std = features.mean(0), features.std(0) + 1e-6
        covariance, _ = ledoit_wolf((features - mean) / std, assume_centered=True)
        variances, basis = np.linalg.eigh(covariance)
        return cls(mean, std, (basis / np.sqrt(variances)).astype(mean.dtype))

    def distance(self, features: Matrix) -> NDArray[np.float64]:
        """Logarithm of the Mahalanobis distance (N,)."""
        # In float64, or an image's distance would depend on how many others there are.
        white = (features.astype(np.float64) - self.mean) / self.std @ self.whitening
        return np.log(np.square(white).sum(1).clip(min=1e-12)) / 2

    def mean_square(self, features: Matrix) -> NDArray[np.float64]:
        """The mean square of standardised features (N,), each by itself."""
        return np.square((features.astype(np.float64) - self.mean) / self.std).mean(1)


@dataclass(kw_only=True, eq=False)
class Features(PointwiseMethod):
    """Distances of activations from those of reference images, a row for each level.

    Args:
        log_snrs: of the levels, as those of images in [-1, 1].
        blocks: names of the network's blocks.
        seed: of the noise.
        reference: the fitted Gaussians by (level, block), see `learn`.
    """

    name = "features"
    learns = True

    log_snrs: Sequence[float] = (LOG_SNR,)
    block_names: Sequence[str] = BLOCKS
    seed: int = 2
    reference: Mapping[tuple[int, str], Gaussian] = field(default_factory=dict)

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
        self.reference = {key: Gaussian.fit(np.concatenate(v)) for key, v in found.items()}

    def state_dict(self) -> dict[str, Matrix]:
        """What was learned, as arrays by name."""
        return {
            f"{t}/{name}/{part}": getattr(gaussian, part)
            for (t, name), gaussian in self.reference.items()
            for part in Gaussian.__dataclass_fields__
        }

    def load_state_dict(self, state: Mapping[str, Matrix]) -> None:
        """Take over what `state_dict` gave."""
        keys = dict.fromkeys(key.rsplit("/", 1)[0] for key in state)
        self.reference = {
            (int(key.split("/")[0]), key.split("/")[1]): Gaussian(
                **{part: state[f"{key}/{part}"] for part in Gaussian.__dataclass_fields__}
            )
            for key in keys
        }

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
