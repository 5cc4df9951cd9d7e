"""A head of one's own: z-scores by median and MAD, which a few odd images do not move.

    python examples/mad_head.py

To use it: move the class to `calibration/` and add a line to `HEADS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from typing_extensions import Self

from diffusion_ood.errors import UserError


class MedianHead:
    """The mean over features of |x − median| / (1.4826 · MAD), by which a Gaussian has |z|."""

    def fit(self, features: pd.DataFrame) -> Self:
        """Fit to images: index filename, columns (column, t)."""
        self.columns = features.columns
        self.median = features.median().to_numpy()
        self.scale = 1.4826 * (features - self.median).abs().median().to_numpy()
        if not self.scale.all():
            raise UserError("found a feature that most images share, expected values that differ")
        return self

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """The score of each image; higher is more out of distribution."""
        if not features.columns.equals(self.columns):
            raise UserError("found other features than those of the validation images")
        return ((features - self.median).abs() / self.scale).mean(axis=1)

    def state_dict(self) -> dict[str, Any]:
        """What was fitted."""
        names, t = zip(*self.columns, strict=True)
        fitted = {"median": self.median, "scale": self.scale}
        return {"columns": list(names), "t": np.array(t), **fitted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another head was fitted to."""
        self.columns = pd.MultiIndex.from_arrays([state["columns"], state["t"]])
        self.median, self.scale = state["median"], state["scale"]


def main() -> None:
    """An image 4 standard deviations off keeps its score, however odd 5 % of the others are."""
    columns = pd.MultiIndex.from_product([["mse", "eps_sq"], [100, 300, 500]])
    rng = np.random.default_rng(0)
    images = pd.DataFrame(1 + 0.1 * rng.standard_normal((2000, 6)), columns=columns)
    odd = pd.DataFrame(np.full((1, 6), 1.4), columns=columns)
    print(f"{'':10}{'median':>10}{'mean':>10}")
    for name in ("clean", "mixed"):
        z = ((odd - images.mean()) / images.std()).abs().mean(axis=1)
        print(f"{name:10}{MedianHead().fit(images).score(odd)[0]:10.2f}{z[0]:10.2f}")
        images.iloc[:100] = 6.0


if __name__ == "__main__":
    main()
