"""Detectors of the literature: which columns of a method's table they read, and by what head.

Each is a head like any other, of the columns that it names alone. Constants that do not change the
order of images, such as the number of pixels in FLIPD, are left out. Papers fit to training images;
these are fitted to validation images as all heads are, which the network cannot have memorised, and
to few of them: mixtures have as many Gaussians as that supports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from diffusion_ood.calibration.base import Head, Matrix, State
from diffusion_ood.calibration.kde import KernelDensity
from diffusion_ood.calibration.mixture import Mixture
from diffusion_ood.calibration.neighbours import NearestNeighbours
from diffusion_ood.calibration.zscore import TwoSidedZScore, ZScore

if TYPE_CHECKING:
    from typing_extensions import Self

Transform = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Detector:
    """How a published detector is made of columns; calling it gives a head to fit.

    Attributes:
        columns: which it needs; of several lists the first that a table has.
        head: makes the head of what `transform` gives.
        transform: of the features, to features of which the head is fitted.
    """

    columns: Sequence[Sequence[str]]
    head: Callable[[], Head]
    transform: Transform = pd.DataFrame.copy

    def found(self, columns: Sequence[str]) -> list[str]:
        """The columns that it takes of a table's; none where it does not apply."""
        return next((list(own) for own in self.columns if set(own) <= set(columns)), [])

    def __call__(self) -> Head:
        """A head that is not fitted."""
        return _Transformed(self)


class _Transformed(Head):
    """A head on transformed features."""

    def __init__(self, detector: Detector) -> None:
        self.transform, self.head = detector.transform, detector.head()

    def fit(self, features: pd.DataFrame) -> Self:
        """See `Head`."""
        self.head.fit(self.transform(features))
        return self

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """See `Head`."""
        return self.head.score(self.transform(features))

    def state_dict(self) -> State:
        """See `Head`."""
        return self.head.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Head`."""
        self.head.load_state_dict(state)


class _UnlikeliestLevel(KernelDensity):
    """The highest −log density over levels, in place of their sum."""

    def _score(self, z: Matrix) -> Matrix:
        return self.logs(z).max(axis=1)


def _nearest_ten() -> NearestNeighbours:
    return NearestNeighbours(10)


def _roots(features: pd.DataFrame) -> pd.DataFrame:
    return np.sqrt(features.clip(lower=0))


def _ratio(features: pd.DataFrame) -> pd.DataFrame:
    """The logarithm of |N / C| at the first and the third level; C = 0 would be a pole."""
    trace = features["trace"].abs().clip(lower=1e-6)
    ratio = np.log(features["eps_sq"].clip(lower=1e-12) / trace)
    return pd.concat({"ratio": ratio.iloc[:, [0, min(2, ratio.shape[1] - 1)]]}, axis=1)


def _difference(features: pd.DataFrame) -> pd.DataFrame:
    return pd.concat({"difference": features["clean_eps_sq"] - features["clean_trace"]}, axis=1)


def _one(*columns: str) -> Sequence[Sequence[str]]:
    return [[column] for column in columns]


DISTANCES = ("perceptual_difference", "mse", "mse_latent", "mse_autoencoded")

MSMA_NOISY = Detector([["eps_sq"]], Mixture, _roots)
"""Norms of the score at all levels (Mahmood et al. 2021), of noisy images."""

MSMA_CLEAN = Detector([["clean_eps_sq"]], Mixture, _roots)
"""The same as published, of images without noise."""

SCOPED = Detector([["eps_sq", "trace"]], _UnlikeliestLevel, _ratio)
"""Norm over trace at two levels, the unlikelier of both (arXiv 2510.01456)."""

FLIPD = Detector([["clean_eps_sq", "clean_trace"]], KernelDensity, _difference)
"""An estimate of the local intrinsic dimension (Kamkari et al. 2024, equation 9), two-sided."""

POSTERIOR_TRACE = Detector(_one("trace"), TwoSidedZScore)
"""The trace of the posterior covariance, two-sided."""

CFS = Detector(_one("channels"), ZScore)
"""Channel statistics of two blocks in one call (arXiv 2605.11014)."""

DIFFPATH_1D = Detector(_one("change_2"), KernelDensity, _roots)
"""How much the path bends (Heng et al. 2024)."""

DIFFPATH_6D = Detector([["eps_1", "eps_2", "eps_3", "change_1", "change_2", "change_3"]], Mixture)
"""All six sums over the path (Heng et al. 2024)."""

UFCOD = Detector([["eps_2", "change_2"]], _nearest_ten)
"""Two of them, by the ten nearest validation images (arXiv 2605.03410)."""

NLL = Detector(_one("bits"), ZScore)
"""The bound on −log p, larger where out of distribution."""

TYPICALITY = Detector(_one("bits"), TwoSidedZScore)
"""The same, two-sided (Nalisnick et al. 2019)."""

INPUT_COMPLEXITY = Detector(_one("excess_bits"), ZScore)
"""The bound less the bits of the compressed image (Serrà et al. 2020)."""

GEPC = Detector([["residual", "residual_top", "residual_image", "misalignment"]], KernelDensity)
"""Whether ε̂ turns with the image (arXiv 2602.00191)."""

EIGENSCORE = Detector(_one("eigenvalue"), ZScore)
"""The largest eigenvalue of the posterior covariance (arXiv 2510.07206)."""

PROJECTION_REGRET = Detector(_one(*(f"regret_{name}" for name in DISTANCES)), ZScore)
"""How much more an image moves than its projection (Choi et al. 2023)."""

LMD = Detector(_one(*(f"inpainted_{name}" for name in DISTANCES)), ZScore)
"""How far the filled-in image is from the image (Liu et al. 2023)."""

PIXEL_MEAN = Detector(_one("pixel_mean"), TwoSidedZScore)
PIXEL_STD = Detector(_one("pixel_std"), TwoSidedZScore)
COMPRESSED = Detector(
    [["compressed_bits", "pixel_mean"]], TwoSidedZScore, lambda f: f[["compressed_bits"]]
)
UNTRAINED = Detector(_one("untrained_eps_sq"), TwoSidedZScore)
"""Controls, two-sided: a detector below one of them has found no more than that."""
