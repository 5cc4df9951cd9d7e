"""Features and z-scores against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.calibration.base import features
from diffusion_ood.calibration.zscore import Average, TopLevels, TwoSidedZScore, ZScore
from diffusion_ood.errors import UserError

# At t = 10: mean 2, std 1; at t = 20: mean 20, std 10 (ddof = 1).
VAL = pd.DataFrame(
    [(f, "val", t, x) for f, a, b in (("u", 1, 10), ("v", 2, 20), ("w", 3, 30)) for t, x in
     ((10, a), (20, b))],
    columns=["filename", "type", "t", "mse"],
)  # fmt: skip
TWO = "filename t mse perceptual_difference"


def frame(*rows: tuple[object, ...], columns: str = "filename t mse") -> pd.DataFrame:
    return features(pd.DataFrame(list(rows), columns=columns.split()))


def test_features_are_one_row_an_image_in_order_of_first_appearance() -> None:
    found = frame(("z", 20, 50.0), ("10", 10, 2.0), ("z", 10, 7.0), ("10", 20, 0.0))
    assert list(found.index) == ["z", "10"]
    assert list(found.columns) == [("mse", 10), ("mse", 20)]
    assert found.to_numpy().tolist() == [[7, 50], [2, 0]]


def test_features_are_averaged_over_repeats() -> None:
    found = frame(("x", 5, 0, 1.0), ("x", 5, 1, 7.0), columns="filename t repeat mse")
    assert found.to_numpy().tolist() == [[4]]


def test_features_of_other_t_or_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"b lacks .* t = 20"):
        frame(("a", 10, 1.0), ("a", 20, 1.0), ("b", 10, 1.0))
    with pytest.raises(UserError, match="ssim"):
        features(VAL, ["ssim"])


def test_z_scores_by_hand() -> None:
    table = frame(("z", 20, 50.0), ("a", 10, 2.0), ("z", 10, 7.0), ("a", 20, 0.0))
    scores = ZScore().fit(features(VAL)).score(table)
    assert scores.to_dict() == {"z": (3 + 5) / 2, "a": (0 - 2) / 2}
    assert list(scores.index) == ["z", "a"]


def test_of_two_columns_it_is_the_sum() -> None:
    head = ZScore().fit(features(VAL.assign(perceptual_difference=VAL["mse"] * 2)))
    bad = frame(("bad", 10, 3.0, 8.0), ("bad", 20, 40.0, 40.0), columns=TWO)
    assert head.score(bad)["bad"] == 1.5 + 1.0


def test_the_deviation_is_that_of_the_means_over_repeats() -> None:
    val = frame(("u", 5, 0, 0.0), ("u", 5, 1, 2.0), ("v", 5, 0, 5.0), ("v", 5, 1, 1.0),
                columns="filename t repeat mse")  # fmt: skip
    state = ZScore().fit(val).state_dict()
    assert state["mean"].tolist() == [2]
    assert state["std"] == pytest.approx([math.sqrt(2)], abs=1e-15)


def test_values_that_are_too_low_are_found_two_sided_alone() -> None:
    low = frame(("x", 10, -3.0), ("x", 20, -30.0))
    assert ZScore().fit(features(VAL)).score(low)["x"] == -5
    assert TwoSidedZScore().fit(features(VAL)).score(low)["x"] == 5


def test_only_the_most_unusual_levels_count_and_columns_are_summed_before() -> None:
    """Of five levels two: a quarter, rounded up; what is unusually good takes nothing away."""
    mse, lpips = (1, -3, 5, 2, -9), (0, 4, -4, 0, 0)
    val = frame(*((f"{x}", 10 * k, x, x) for x in (-1, 0, 1) for k in range(5)), columns=TWO)
    image = frame(*(("x", 10 * k, mse[k], lpips[k]) for k in range(5)), columns=TWO)
    found = {}
    for columns in (["mse"], ["perceptual_difference"], ["mse", "perceptual_difference"]):
        found[len(columns), columns[0]] = TopLevels().fit(val[columns]).score(image[columns])["x"]
    assert list(found.values()) == [(5 + 2) / 2, (4 + 0) / 2, (2 + 1) / 2]


def test_the_top_of_one_level_is_that_one() -> None:
    one, image = features(VAL[VAL["t"] == 10]), frame(("x", 10, 7.0))
    assert TopLevels().fit(one).score(image)["x"] == ZScore().fit(one).score(image)["x"] == 5


def test_an_average_is_of_the_values_themselves() -> None:
    val = features(VAL.assign(mse=1.0, other=3.0))
    image = frame(("x", 10, 2.0, 1.0), ("x", 20, 4.0, 0.0), columns="filename t mse other")
    assert Average().fit(val).score(image)["x"] == 3 + 0.5


@pytest.mark.parametrize("head", [ZScore, TwoSidedZScore, TopLevels, Average])
def test_one_image_is_refused(head: type[ZScore]) -> None:
    with pytest.raises(UserError, match=r"found 1 .*expected at least 4, .*`first_n_val`"):
        head().fit(features(VAL[VAL["filename"] == "u"]))


def test_a_constant_feature_is_refused_and_its_t_named_or_left_out() -> None:
    constant = features(VAL.assign(mse=VAL["mse"].where(VAL["t"] == 10, 0.1)))
    with pytest.raises(UserError, match="mse at t = 20"):
        ZScore().fit(constant)
    low = frame(("x", 10, -3.0), ("x", 20, np.pi))
    assert TwoSidedZScore().fit(constant).score(low)["x"] == 5
    with pytest.raises(UserError, match="mse at t = 10"):
        TwoSidedZScore().fit(features(VAL.assign(mse=0.1)))


def test_other_features_than_those_that_were_fitted_are_refused() -> None:
    head = ZScore().fit(features(VAL))
    with pytest.raises(UserError, match=r"x lacks .* t = 20"):
        head.score(frame(("x", 10, 1.0)))
    with pytest.raises(UserError, match=r"x has .* t = 30"):
        head.score(frame(("x", 10, 1.0), ("x", 20, 1.0), ("x", 30, 1.0)))
    with pytest.raises(UserError, match="ssim"):
        head.score(frame(("x", 10, 1.0), ("x", 20, 1.0), columns="filename t ssim"))


def test_a_level_whose_error_is_exactly_zero_takes_no_part() -> None:
    exact = VAL.assign(mse=VAL["mse"].where(VAL["t"] == 10, 0.0))
    level = VAL["t"] == 10
    for head in (ZScore, TopLevels):
        found = head().fit(features(exact)).score(features(exact))
        alone = head().fit(features(VAL[level])).score(features(VAL[level]))
        np.testing.assert_allclose(found, alone)
    with pytest.raises(UserError, match="mse at t = 10"):
        ZScore().fit(features(exact.assign(mse=0.0)))
