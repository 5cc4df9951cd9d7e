"""Targets: averages over levels, single levels, further heads, and which is primary."""

import numpy as np
import pandas as pd
import pytest

from diffusion_ood.calibration.base import features
from diffusion_ood.calibration.gaussian import LedoitWolfGaussian
from diffusion_ood.detection.image_scores import fit_targets, select_t, z_by_level
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions

COLUMNS = ["mse", "logit_l1_global", "msp"]


def table(kind, rows):
    """Rows of (filename, t, repeat, logit_l1_global); mse and msp are made of them."""
    frame = pd.DataFrame(rows, columns=["filename", "t", "repeat", "logit_l1_global"])
    frame.insert(1, "type", kind)
    frame["mse"] = frame["logit_l1_global"] ** 2 + frame["t"]
    frame["msp"] = frame["filename"].map({"a": -0.9, "b": -0.5, "c": -0.2, "x": -0.3})
    return frame


VAL = table(
    "val",
    [
        (name, t, repeat, base + t / 100 + repeat)
        for name, base in (("a", 1.0), ("b", 2.0), ("c", 4.0))
        for t in (120, 240)
        for repeat in (0, 1)
    ],
)
TEST = table(
    "in",
    [("x", 240, 1, 9.0), ("x", 120, 0, 2.0), ("x", 120, 1, 4.0), ("x", 240, 0, 5.0)]
    + [("c", t, repeat, 1.0) for t in (120, 240) for repeat in (0, 1)],
)


def scores(columns=COLUMNS, *, joint=None, **options):
    """The scores of TEST, a column each target, in their order."""
    val, test = features(VAL, columns), features(TEST, columns)
    targets = fit_targets(val, DetectOptions(**options), joint=joint)
    return pd.DataFrame({target.name: target.score(test) for target in targets})


def test_single_levels_are_the_mean_over_repeats_as_they_are_in_the_table():
    found = scores()
    assert list(found.index) == ["x", "c"]
    assert found["logit_l1_global@120"].tolist() == [3, 1]
    assert found["logit_l1_global@240"].tolist() == [7, 1]
    assert [name for name in found if "@" in name] == [
        "logit_l1_global@120",
        "logit_l1_global@240",
    ]


def test_averages_are_of_z_scores_by_the_validation_images():
    # Validation means over repeats: t = 120: 2.7, 3.7, 5.7; t = 240: 3.9, 4.9, 6.9.
    mean, std = (2.7 + 3.7 + 5.7) / 3, pd.Series([2.7, 3.7, 5.7]).std()
    expected = ((3 - mean) / std + (7 - mean - 1.2) / std) / 2
    assert scores()["logit_l1_global"]["x"] == pytest.approx(expected)


def test_without_z_scores_averages_are_of_the_scores():
    found = scores(z_score=False)
    assert found["logit_l1_global"].tolist() == [5, 1]
    assert found["msp"].tolist() == [-0.3, -0.2]
    assert list(scores(["mse", "msp"], joint=True, z_score=False)) == ["mse", "msp"]


def test_a_score_without_a_spread_is_fine_where_no_z_score_is_taken():
    flat = features(VAL.assign(msp=-1.0), COLUMNS)
    with pytest.raises(UserError, match="msp at t = 120"):
        fit_targets(flat, DetectOptions())
    targets = fit_targets(flat, DetectOptions(z_score=False))
    assert {t.name: t.score(flat)["a"] for t in targets}["msp"] == -1


@pytest.mark.parametrize(
    ("asked", "columns", "expected"),
    [
        (None, COLUMNS, "mse"),
        (None, ["msp", "logit_l1_global"], "logit_l1_global"),
        (None, ["msp"], "msp"),
        ("logit_l1_global@240", COLUMNS, "logit_l1_global@240"),
        ("unknown", COLUMNS, "mse"),
    ],
)
def test_the_primary_score_comes_first(asked, columns, expected):
    found = list(scores(headline=asked, columns=columns))
    assert found[0] == expected
    assert len(found) == len(set(found)) == len(columns) + 2 * ("logit_l1_global" in columns)


def test_several_columns_have_a_joint_target_where_it_is_asked_for():
    alone, joint = scores(["mse", "msp"]), scores(["mse", "msp"], joint=True)
    assert list(alone) == ["mse", "msp"]
    assert list(joint) == ["all", "mse", "msp"]
    pd.testing.assert_series_equal(joint["all"], alone.sum(axis=1), check_names=False)
    assert list(scores(["msp"], joint=True)) == ["msp"]


def test_further_heads_are_over_all_columns_and_their_validation_scores_held_out():
    rng = np.random.default_rng(0)
    columns = pd.MultiIndex.from_product([["mse", "other"], [10, 20]])
    val = pd.DataFrame(rng.normal(size=(50, 4)), columns=columns)
    options = DetectOptions(heads=("knn", "gaussian"), headline="gaussian")
    targets = fit_targets(val, options)
    assert [target.name for target in targets] == ["gaussian", "mse", "other", "knn"]
    gaussian = targets[0]
    expected = LedoitWolfGaussian().fit(val).score(val)
    pd.testing.assert_series_equal(gaussian.score(val), expected)
    assert (gaussian.val_scores != expected).all()


def test_z_scores_by_level_are_summed_over_columns():
    val, test = features(VAL, COLUMNS), features(TEST, COLUMNS)
    found = z_by_level(val, test, ["logit_l1_global", "mse"])
    assert list(found.columns) == [120, 240]
    single = [z_by_level(val, test, [column]) for column in ("logit_l1_global", "mse")]
    pd.testing.assert_frame_equal(found, single[0] + single[1])
    assert single[0].loc["x"].mean() == pytest.approx(scores()["logit_l1_global"]["x"])


@pytest.mark.parametrize(
    ("min_t", "max_t", "t_skip", "expected"),
    [
        (0, 1000, 1, [10, 20, 30, 40, 50]),
        (20, 40, 1, [20, 30, 40]),
        (0, 1000, 2, [10, 30, 50]),
        (15, 1000, 3, [20, 50]),
    ],
)
def test_selected_start_points(min_t, max_t, t_skip, expected):
    rows = pd.DataFrame([(f, t) for f in "ab" for t in (50, 10, 30, 20, 40)], columns=["f", "t"])
    kept = select_t(rows, min_t, max_t, t_skip)
    assert sorted(kept["t"].unique()) == expected
    assert len(kept) == 2 * len(expected)


def test_no_start_point_left_is_refused():
    with pytest.raises(UserError, match=r"`min_t` 121, `max_t` 239: .* 120 to 240"):
        select_t(VAL, 121, 239, 1)
