"""Decisions and their rate from validation and in-distribution images alone, worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from diffusion_ood.detection.assessment import assess
from diffusion_ood.detection.folders import find_tables, table_path
from diffusion_ood.detection.table import write_table
from diffusion_ood.errors import UserError
from diffusion_ood.options import DetectOptions


@pytest.fixture
def ood(tmp_path: Path) -> Path:
    """99 validation images that score 0 to 98 / 98, and 40 of which 3 score more than any."""
    scores = {"val": np.arange(99) / 98, "in": np.r_[np.linspace(0, 0.9, 37), 2.0, 3.0, 4.0]}
    for kind, values in scores.items():
        names = [f"{kind}/{k}.png" for k in range(len(values))]
        rows = {"filename": names, "type": kind, "t": 10, "mse": values}
        write_table(table_path(tmp_path, kind), pd.DataFrame(rows))
    return tmp_path


def test_the_realised_rate_is_that_of_the_images_above_the_threshold(ood: Path) -> None:
    found = assess(ood, DetectOptions(z_score=False))
    assert found.ood_sets == []
    assert found.num_images == {"val": 99, "in": 40}
    assert found.metrics == {"mse": {}}
    assert list(found.decisions) == ["in"]
    # p = (1 + #{validation scores >= s}) / 100 <= 0.05 above the fifth highest of them
    assert found.threshold(0.05) == pytest.approx(94 / 98)
    assert found.threshold(0.005) is None
    decided = found.decisions["in"]
    assert list(decided["filename"][decided["is_ood"]]) == ["in/37.png", "in/38.png", "in/39.png"]
    assert set(decided["p_value"][decided["is_ood"]]) == {0.01}
    bounds = binomtest(3, 40).proportion_ci(method="wilson")
    rate = found.called_ood["in"]
    assert (rate.value, rate.low, rate.high) == pytest.approx((3 / 40, bounds.low, bounds.high))


def test_sets_that_are_named_have_to_be_there(ood: Path) -> None:
    assert list(find_tables(ood, DetectOptions())) == ["val", "in"]
    with pytest.raises(UserError, match=r"results_far\.csv.*`out_ids`"):
        find_tables(ood, DetectOptions(out_data=("far",)))
    table_path(ood, "in").unlink()
    with pytest.raises(UserError, match=r"results_in\.csv.*`in_ids`"):
        find_tables(ood, DetectOptions())
