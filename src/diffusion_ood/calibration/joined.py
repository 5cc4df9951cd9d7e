"""Several kinds of evidence as one score.

    distances   how far x̂_0 is from the image: large where unusual, so one-sided, and of the quarter
                of the levels that is most so, since few levels show any one kind of image
    features    how far activations are from those of reference images: one-sided
    everything  both, norms of the score and traces: two-sided, a Gaussian of their logarithms, for
                images that are unusually easy, or whose numbers do not go together
    autoencoder what a latent model's autoencoder loses of the image: one-sided

Each is standardised by scores that it gave to validation images which it was not fitted to, and

    score = z_features + log(1 + exp(z_distances) + exp(z_everything) + exp(z_autoencoder))

With exp(z) as a likelihood ratio, what the activations say is multiplied by that of an alternative
that is one of these: unusual to the eye, unusual in whichever way, or neither. So one kind is
enough, and a kind that sees nothing takes nothing away. What takes part, and how, was fixed on
validation images and on foreign ones made of others of them, see docs/leaderboard.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from diffusion_ood.calibration.base import Head, State
from diffusion_ood.calibration.conformal import held_out_scores
from diffusion_ood.calibration.gaussian import LogGaussian
from diffusion_ood.calibration.zscore import TopLevels, ZScore
from diffusion_ood.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Self

DISTANCES = ("mse", "perceptual_difference", "mse_latent", "mse_autoencoded")
NOT_JOINED = ("features/channels",)
HEADS: dict[str, Callable[[], Head]] = {
    "distances": TopLevels,
    "features": ZScore,
    "everything": LogGaussian,
    "autoencoder": ZScore,
}
OF_ALL_MODELS = ("distances", "features", "everything")


def members(columns: pd.MultiIndex) -> dict[str, pd.MultiIndex]:
    """The features of each kind of evidence that is there.

    Args:
        columns: pairs of `method/column` and t. The distances of `denoising` are taken, without it
            those of `reconstruction`.
    """
    names = columns.get_level_values(0)
    source = (
        "denoising" if any(name.startswith("denoising/") for name in names) else "reconstruction"
    )
    distances = names.isin([f"{source}/{name}" for name in DISTANCES])
    geometry = names.str.startswith("score_geometry/")
    features = names.str.startswith("features/") & ~names.isin(NOT_JOINED)
    everything = distances | geometry | features
    chosen = {"distances": distances, "features": features, "everything": everything}
    chosen["autoencoder"] = names.str.startswith("autoencoder/")
    return {name: columns[which] for name, which in chosen.items() if which.any()}


class Joined(Head):
    """Every kind of evidence that features hold, as one score; see the module."""

    def __init__(self) -> None:
        self.fitted: State = {}

    def fit(self, features: pd.DataFrame) -> Self:
        """See `Head`."""
        assert isinstance(features.columns, pd.MultiIndex)
        for name, columns in members(features.columns).items():
            part = features[columns]
            held_out = held_out_scores(HEADS[name], part)
            spread = held_out.std(ddof=1)
            if not spread > 0:
                raise UserError(f"{name}: found the same score for all validation images")
            self.fitted[name] = {
                "columns": [list(column) for column in columns],
                "mean": held_out.mean(),
                "std": spread,
                "head": HEADS[name]().fit(part).state_dict(),
            }
        return self

    def kinds(self, features: pd.DataFrame) -> pd.DataFrame:
        """The z-score of each kind of evidence that there is, `(images, kinds)`."""
        found = {}
        for name, fitted in self.fitted.items():
            head = HEADS[name]()
            head.load_state_dict(fitted["head"])
            part = features[pd.MultiIndex.from_tuples(map(tuple, fitted["columns"]))]
            found[name] = (head.score(part) - fitted["mean"]) / fitted["std"]
        return pd.DataFrame(found)

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """See `Head`."""
        kinds = self.kinds(features)
        seen = kinds.drop(columns="features", errors="ignore").assign(neither=0.0)
        others = logsumexp(seen.to_numpy(np.float64), axis=1)
        return kinds.get("features", 0.0) + pd.Series(others, index=features.index)

    def state_dict(self) -> State:
        """See `Head`."""
        return dict(self.fitted)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Head`."""
        self.fitted = dict(state)
