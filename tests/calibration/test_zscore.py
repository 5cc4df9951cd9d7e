"""Z-scores against cases worked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from diffusion_ood.detection.calibration import fit, select_t
from diffusion_ood.errors import UserError

# At t = 10: mean 2, std 1; at t = 20: mean 20, std 10 (ddof = 1).
VAL = pd.DataFrame(
    [(f, "val", t, x) for f, a, b in (("u", 1, 10), ("v", 2, 20), ("w", 3, 30)) for t, x in
     ((10, a), (20, b))],
    columns=["filename", "type", "t", "mse"],
)  # fmt: skip


def frame(*rows: tuple[object, ...], columns: str = "filename t mse") -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns.split())


def test_z_scores_by_hand_in_order_of_first_appearance() -> None:
    table = frame(("z", 20, 50.0), ("a", 10, 2.0), ("z", 10, 7.0), ("a", 20, 0.0))
    scores = fit(VAL, ["mse"]).image_scores(table)
    assert scores["mse"].to_dict() == {"z": (3 + 5) / 2, "a": (0 - 2) / 2}
    assert list(scores.index) == ["z", "a"]
    assert list(scores.columns) == ["mse"]


def test_both_is_the_sum_and_worse_reconstructions_score_higher() -> None:
    val = VAL.assign(perceptual_difference=VAL["mse"] * 2)
    table = frame(
        ("good", 10, 2.0, 4.0), ("good", 20, 20.0, 40.0), ("bad", 10, 3.0, 8.0), ("bad", 20, 40.0,
        40.0), columns="filename t mse perceptual_difference")  # fmt: skip
    scores = fit(val, ["mse", "perceptual_difference"]).image_scores(table)
    assert scores.loc["good"].to_dict() == {"mse": 0, "perceptual_difference": 0, "both": 0}
    assert scores.loc["bad"].to_dict() == {"mse": 1.5, "perceptual_difference": 1.0, "both": 2.5}


def test_only_the_most_unusual_start_points_count_where_that_is_asked_for() -> None:
    """Of five, two: a quarter, rounded up; what is unusually good elsewhere takes nothing away."""
    columns, mse, lpips = (
        "filename t mse perceptual_difference",
        (1, -3, 5, 2, -9),
        (0, 4, -4, 0, 0),
    )
    val = frame(*((f"{x}", 10 * k, x, x) for x in (-1, 0, 1) for k in range(5)), columns=columns)
    image = frame(*(("x", 10 * k, mse[k], lpips[k]) for k in range(5)), columns=columns)
    calibration = fit(val, ["mse", "perceptual_difference"])
    equal, highest = (c.image_scores(image) for c in (calibration, calibration.of_the_highest()))
    assert equal.loc["x"].to_dict() == pytest.approx(
        {"mse": -4 / 5, "perceptual_difference": 0, "both": -4 / 5}
    )
    assert highest.loc["x"].to_dict() == pytest.approx(
        {"mse": (5 + 2) / 2, "perceptual_difference": (4 + 0) / 2, "both": (2 + 1) / 2}
    )
    assert list(highest.columns) == list(equal.columns)


def test_the_highest_of_one_start_point_is_that_one() -> None:
    calibration, image = fit(VAL, ["mse"]), frame(("x", 10, 7.0), ("x", 20, 0.0))
    assert calibration.of_the_highest().image_scores(image).loc["x", "mse"] == 5
    one = fit(VAL[VAL["t"] == 10], ["mse"])
    rest = image[image["t"] == 10]
    pd.testing.assert_frame_equal(one.of_the_highest().image_scores(rest), one.image_scores(rest))


def test_repeats_are_averaged_before_the_deviation_is_taken() -> None:
    val = frame(("u", 5, 0, 0.0), ("u", 5, 1, 2.0), ("v", 5, 0, 5.0), ("v", 5, 1, 1.0),
                columns="filename t repeat mse")  # fmt: skip
    calibration = fit(val, ["mse"])
    assert calibration.mean.loc[5, "mse"] == 2.0
    assert calibration.std.loc[5, "mse"] == pytest.approx(math.sqrt(2), abs=1e-15)
    test = frame(("x", 5, 0, 1.0), ("x", 5, 1, 7.0), columns="filename t repeat mse")
    scores = calibration.image_scores(test)
    assert scores.loc["x", "mse"] == pytest.approx(2 / math.sqrt(2), abs=1e-15)


def test_one_validation_image_is_refused() -> None:
    with pytest.raises(UserError, match="found 1 validation image, expected at least 2"):
        fit(VAL[VAL["filename"] == "u"], ["mse"])


def test_a_constant_score_is_refused_and_its_t_named() -> None:
    constant = VAL.assign(mse=VAL["mse"].where(VAL["t"] == 10, 0.1))
    with pytest.raises(UserError, match="mse at t = 20 is the same for all 3 validation images"):
        fit(constant, ["mse"])


def test_start_points_that_differ_from_validation_are_refused() -> None:
    calibration = fit(VAL, ["mse"])
    with pytest.raises(UserError, match="x lacks the start point t = 20"):
        calibration.image_scores(frame(("x", 10, 1.0)))
    with pytest.raises(UserError, match="x has the start point t = 30"):
        calibration.image_scores(frame(("x", 10, 1.0), ("x", 30, 1.0)))
    with pytest.raises(UserError, match="v lacks the start point t = 10"):
        fit(VAL.drop(index=2), ["mse"])
    with pytest.raises(UserError, match="no column mse"):
        calibration.image_scores(frame(("x", 10, 1.0), columns="filename t ssim"))


@pytest.mark.parametrize(
    ("min_t", "max_t", "t_skip", "expected"),
    [
        (0, 1000, 1, [10, 20, 30, 40, 50]),
        (20, 40, 1, [20, 30, 40]),
        (0, 1000, 2, [10, 30, 50]),
        (15, 1000, 3, [20, 50]),
    ],
)
def test_selected_start_points(min_t: int, max_t: int, t_skip: int, expected: list[int]) -> None:
    table = frame(*((f, t, 0.0) for f in "ab" for t in (50, 10, 30, 20, 40)))
    kept = select_t(table, min_t, max_t, t_skip)
    assert sorted(kept["t"].unique()) == expected
    assert len(kept) == 2 * len(expected)


def test_no_start_point_left_is_refused() -> None:
    with pytest.raises(UserError, match=r"--min_t 11, --max_t 19: .* expected some of 10 to 20"):
        select_t(VAL, 11, 19, 1)
