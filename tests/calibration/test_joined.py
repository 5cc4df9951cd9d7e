"""Several kinds of evidence as one score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from diffusion_ood.calibration.conformal import held_out_scores, p_values
from diffusion_ood.calibration.gaussian import LedoitWolfGaussian, LogGaussian
from diffusion_ood.calibration.joined import Joined, members
from diffusion_ood.calibration.zscore import TopLevels, ZScore
from diffusion_ood.errors import UserError

COLUMNS = {
    "denoising/mse": (0, 5, 9),
    "denoising/perceptual_difference": (0, 5, 9),
    "score_geometry/eps_sq": (0, 5, 9),
    "features/middle_block_distance": (2,),
    "features/channels": (2,),
}
KINDS = ["distances", "features", "everything"]


def drawn(n: int, seed: int = 0, **moved: float) -> pd.DataFrame:
    """Features of n images, some columns of which are moved by so many of their deviations."""
    rng = np.random.default_rng(seed)
    columns = [(name, t) for name, levels in COLUMNS.items() for t in levels]
    values = rng.standard_normal((n, len(columns)))
    for name, shift in moved.items():
        values[:, [k for k, (column, _) in enumerate(columns) if name in column]] += shift
    index = pd.Index([f"{seed}-{i}.png" for i in range(n)], name="filename")
    return pd.DataFrame(
        np.exp(values / 4), index, pd.MultiIndex.from_tuples(columns, names=[None, "t"])
    )


def test_each_kind_takes_its_columns() -> None:
    found = members(drawn(3).columns)
    assert {name: len(columns) for name, columns in found.items()} == dict(
        zip(KINDS, (6, 1, 10), strict=True)
    )
    grid = pd.MultiIndex.from_product([["reconstruction/mse", "diffood/msp"], [1, 2]])
    assert members(grid).keys() == {"distances", "everything"}
    assert members(pd.MultiIndex.from_product([["path/eps_1"], [0]])) == {}


def test_the_score_multiplies_what_features_say_by_the_sum_of_the_others() -> None:
    val, images = drawn(80), drawn(10, 1)
    z = []
    for name, head in zip(KINDS, (TopLevels, ZScore, LogGaussian), strict=True):
        columns = members(val.columns)[name]
        held = held_out_scores(head, val[columns])
        z.append((head().fit(val[columns]).score(images[columns]) - held.mean()) / held.std())
    found = Joined().fit(val).score(images)
    distances, features, everything = z
    expected = features + logsumexp(np.stack([distances, everything, 0 * features]), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "moved",
    [{"mse": 6.0}, {"eps_sq": 6.0}, {"eps_sq": -6.0}, {"middle_block": 6.0}],
    ids=str,
)
def test_one_kind_is_enough(moved: dict[str, float]) -> None:
    head = Joined().fit(drawn(200))
    usual = head.score(drawn(100, 1))
    assert (head.score(drawn(100, 2, **moved)) > usual.quantile(0.95)).mean() > 0.9


def test_small_distances_alone_are_seen_by_the_two_sided_kind() -> None:
    kinds = Joined().fit(drawn(200)).kinds(drawn(100, 2, mse=-6.0, perceptual=-6.0))
    assert kinds["distances"].max() < 0 < kinds["everything"].min()
    assert kinds["features"].abs().mean() < 2


def test_p_values_of_usual_images_are_uniform() -> None:
    """Over 20 validation sets the share below 0.1 is 0.1 to within four of its errors."""
    shares = []
    for seed in range(20):
        val, images = drawn(60, 100 + seed), drawn(60, 200 + seed)
        p = p_values(Joined().fit(val).score(images), held_out_scores(Joined, val))
        shares.append((p <= 0.1).mean())
    assert np.mean(shares) == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 60 * 2 / 20))


def test_a_fitted_score_comes_back_from_its_state() -> None:
    fitted, again = Joined().fit(drawn(60)), Joined()
    again.load_state_dict(fitted.state_dict())
    pd.testing.assert_series_equal(again.score(drawn(9, 1)), fitted.score(drawn(9, 1)))


def test_evidence_that_never_changes_is_refused() -> None:
    val = drawn(30)
    val[("features/middle_block_distance", 2)] = 1.0
    with pytest.raises(UserError, match="middle_block"):
        Joined().fit(val)


def test_a_log_gaussian_is_a_gaussian_of_logarithms() -> None:
    val, images = drawn(200), drawn(20, 1)
    plain = LedoitWolfGaussian().fit(np.log(val)).score(np.log(images))
    np.testing.assert_allclose(LogGaussian().fit(val).score(images), np.log(plain) / 2, rtol=1e-9)
    negative = val.copy()
    negative.iloc[0, 0] = -1.0  # so that this column stays as it is
    mixed = np.log(negative.drop(columns=negative.columns[0]))
    mixed.insert(0, negative.columns[0], negative.iloc[:, 0])
    plain = LedoitWolfGaussian().fit(mixed).score(mixed)
    found = LogGaussian().fit(negative).score(negative)
    np.testing.assert_allclose(found, np.log(plain) / 2, rtol=1e-9)


def test_a_vanishing_value_is_finite() -> None:
    val = drawn(60)
    none = drawn(1, 1)
    none.iloc[0, 0] = 0.0
    assert np.isfinite(LogGaussian().fit(val).score(none)).all()
