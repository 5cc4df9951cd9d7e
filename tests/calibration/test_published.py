"""Detectors of the literature as heads of the tables' columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gaussian_kde, norm

from diffusion_ood.calibration.published import Detector
from diffusion_ood.detection.image_scores import asked_heads
from diffusion_ood.registries import PUBLISHED

NAMES = [f"{i}.png" for i in range(60)]


def table(levels: int = 3, seed: int = 0, **columns: float) -> pd.DataFrame:
    """Columns of random values about these means, at each level."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            (column, t): mean + rng.standard_normal(len(NAMES))
            for column, mean in columns.items()
            for t in range(levels)
        },
        index=pd.Index(NAMES, name="filename"),
    )


def scores(name: str, val: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    detector: Detector = PUBLISHED[name]
    columns = detector.found(list(dict.fromkeys(val.columns.get_level_values(0))))
    return detector().fit(val[columns]).score(images[columns]).to_numpy()


def test_scoped_is_the_unlikelier_of_two_ratios() -> None:
    val = table(eps_sq=60.0, trace=64.0)
    found = scores("scoped", val, val)
    ratio = np.log(val["eps_sq"] / val["trace"])[[0, 2]]
    z = ((ratio - ratio.mean()) / ratio.std(ddof=1)).to_numpy()
    expected = []
    for column in z.T:
        low, high = np.quantile(column, [0.25, 0.75])
        width = 0.9 * min(column.std(ddof=1), (high - low) / 1.34) * len(column) ** -0.2
        density = norm.pdf(column[:, None], column[None], width).mean(1)
        expected.append(-np.log(density))
    np.testing.assert_allclose(found, np.max(expected, 0), rtol=1e-9)


def test_flipd_is_the_clean_norm_less_the_trace_in_both_directions() -> None:
    val = table(1, clean_eps_sq=9.0, clean_trace=64.0)
    near, low, high = val.copy(), val.copy(), val.copy()
    low["clean_eps_sq"] -= 20
    high["clean_eps_sq"] += 20
    usual = scores("flipd", val, near)
    assert scores("flipd", val, low).min() > np.median(usual) < scores("flipd", val, high).min()
    difference = (val["clean_eps_sq"] - val["clean_trace"])[0]
    z = (difference - difference.mean()) / difference.std(ddof=1)
    order = gaussian_kde(z).logpdf(z)
    assert np.corrcoef(order.argsort().argsort(), (-usual).argsort().argsort())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "column", "two_sided"),
    [
        ("nll", "bits", False),
        ("typicality", "bits", True),
        ("input_complexity", "excess_bits", False),
        ("cfs", "channels", False),
        ("eigenscore", "eigenvalue", False),
        ("lmd", "inpainted_mse", False),
        ("projection_regret", "regret_mse", False),
        ("posterior_trace", "trace", True),
        ("untrained_control", "untrained_eps_sq", True),
    ],
)
def test_what_is_large_is_unusual_and_what_is_small_where_the_sign_is_not_known(
    name: str, column: str, two_sided: bool
) -> None:
    val = table(2, **{column: 5.0})
    usual = np.median(scores(name, val, val))
    assert scores(name, val, val + 10).min() > usual
    assert bool(scores(name, val, val - 10).min() > usual) is two_sided
    z = ((val - val.mean()) / val.std(ddof=1)).to_numpy()
    expected = np.abs(z).mean(1) if two_sided else z.mean(1)
    np.testing.assert_allclose(scores(name, val, val), expected, rtol=1e-9)


def test_perceptual_distances_are_taken_where_there_are_any() -> None:
    columns = ["inpainted_mse", "inpainted_perceptual_difference"]
    assert PUBLISHED["lmd"].found(columns) == columns[1:]
    assert PUBLISHED["lmd"].found(columns[:1]) == columns[:1]
    assert PUBLISHED["lmd"].found(["mse"]) == []


def test_only_odd_sums_tell_a_path_from_its_negative() -> None:
    sums = {name: 10.0 for name in ("eps_1", "eps_2", "eps_3", "change_1", "change_2", "change_3")}
    val = table(1, **sums)
    negated = val.copy()
    for column in ("eps_1", "eps_3", "change_1", "change_3"):
        negated[column] *= -1
    np.testing.assert_array_equal(
        scores("diffpath_1d", val, negated), scores("diffpath_1d", val, val)
    )
    assert scores("diffpath_6d", val, negated).min() > scores("diffpath_6d", val, val).max()


def test_published_heads_are_those_whose_columns_are_there() -> None:
    assert list(asked_heads(["published"], ["eps_sq", "trace"])) == [
        "msma_noisy",
        "scoped",
        "posterior_trace",
    ]
    assert asked_heads(["msma_clean", "kde"], ["eps_sq"]).keys() == {"kde"}


def test_a_head_comes_back_from_its_state() -> None:
    val, others = table(eps_sq=60.0, trace=64.0), table(seed=1, eps_sq=60.0, trace=64.0)
    fitted = PUBLISHED["scoped"]().fit(val)
    again = PUBLISHED["scoped"]()
    again.load_state_dict(fitted.state_dict())
    pd.testing.assert_series_equal(again.score(others), fitted.score(others))
