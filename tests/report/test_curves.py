"""The numbers of the figures against the definitions, and their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score, roc_curve

from diffusion_ood.report.curves import MAX_BINS, MAX_ROC_POINTS, histograms, roc


def test_the_roc_curve_is_that_of_every_threshold() -> None:
    rng = np.random.default_rng(0)
    s_in, s_out = rng.integers(0, 20, 40) * 1.0, rng.integers(5, 25, 30) * 1.0
    fpr, tpr = roc(s_in, s_out)
    expected = roc_curve(np.r_[np.zeros(40), np.ones(30)], np.r_[s_in, s_out])
    np.testing.assert_allclose(
        np.interp(np.linspace(0, 1, 50), fpr, tpr), np.interp(np.linspace(0, 1, 50), *expected[:2])
    )


def test_a_thinned_roc_curve_keeps_its_ends_and_its_area() -> None:
    rng = np.random.default_rng(1)
    s_in, s_out = rng.normal(size=30_000), rng.normal(1, size=20_000)
    fpr, tpr = roc(s_in, s_out)
    assert len(fpr) == len(tpr) <= MAX_ROC_POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    truth = np.r_[np.zeros(30_000), np.ones(20_000)]
    assert auc(fpr, tpr) == pytest.approx(roc_auc_score(truth, np.r_[s_in, s_out]), abs=5e-4)


@pytest.mark.parametrize("num", [1, 10, 100_000])
def test_histograms_count_every_image_once(num: int) -> None:
    rng = np.random.default_rng(2)
    edges, of_in, of_out = histograms(rng.normal(size=num), rng.standard_cauchy(num))
    assert len(edges) - 1 == len(of_in) == len(of_out) <= MAX_BINS
    assert of_in.sum() == pytest.approx(1)
    assert of_out.sum() == pytest.approx(1)


def test_scores_that_are_all_the_same_have_a_histogram() -> None:
    edges, of_in, _ = histograms(np.zeros(5), np.zeros(5))
    assert edges[0] < 0 < edges[-1]
    assert of_in.max() == 1
