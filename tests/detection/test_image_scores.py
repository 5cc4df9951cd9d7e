"""Targets: averages over levels, single levels, and the headline."""

import pandas as pd
import pytest

from diffusion_ood.detection import calibration
from diffusion_ood.detection.targets import image_targets
from diffusion_ood.errors import UserError

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


def targets(z_score=True, headline=None, columns=COLUMNS):
    calibrated = calibration.fit(VAL, columns)
    return image_targets(TEST, calibrated, z_score, headline)


def test_single_levels_are_the_mean_over_repeats_as_it_is_in_the_table():
    found = targets()
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
    assert targets()["logit_l1_global"]["x"] == pytest.approx(expected)


def test_without_z_scores_averages_are_of_the_scores():
    found = targets(z_score=False)
    assert found["logit_l1_global"].tolist() == [5, 1]
    assert found["msp"].tolist() == [-0.3, -0.2]
    assert "both" not in found


def test_a_score_without_a_spread_is_fine_where_no_z_score_is_taken():
    flat = VAL.assign(msp=-1.0)
    with pytest.raises(UserError, match="msp at t = 120 is the same for all 3"):
        calibration.fit(flat, COLUMNS)
    calibrated = calibration.fit(flat, COLUMNS, need_spread=False)
    found = image_targets(TEST, calibrated, False, None)
    assert found["msp"].tolist() == [-0.3, -0.2]


@pytest.mark.parametrize(
    ("asked", "columns", "expected"),
    [
        (None, COLUMNS, "mse"),
        (None, ["msp", "logit_l1_global"], "logit_l1_global"),
        (None, ["msp"], "msp"),
        ("logit_l1_global@240", COLUMNS, "logit_l1_global@240"),
    ],
)
def test_the_headline_comes_first(asked, columns, expected):
    found = list(targets(headline=asked, columns=columns))
    assert found[0] == expected
    assert len(found) == len(set(found)) == len(columns) + 2 * ("logit_l1_global" in columns)


def test_a_headline_that_is_no_target_is_refused():
    with pytest.raises(
        UserError, match=r"--headline: found 'logit@9', expected one of mse, .*@240"
    ):
        targets(headline="logit@9")
