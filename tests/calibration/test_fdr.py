"""Reports of batches: by hand, at the edges, and their share of false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from diffusion_ood.calibration.conformal import p_values
from diffusion_ood.calibration.fdr import benjamini_hochberg, fdr_doubts
from diffusion_ood.errors import UserError


def step_up(p: np.ndarray, q: float) -> np.ndarray:
    """The procedure as Benjamini and Hochberg (1995) state it."""
    ordered = np.sort(p)
    below = [k for k in range(1, len(p) + 1) if ordered[k - 1] <= q * k / len(p) + 1e-12]
    return p <= ordered[below[-1] - 1] if below else np.zeros(len(p), dtype=bool)


def test_reports_are_those_of_the_step_up_procedure() -> None:
    # By hand with q = 0.1: limits 0.025, 0.05, 0.075, 0.1; the third smallest is within its own.
    assert benjamini_hochberg([0.07, 0.03, 0.5, 0.06], 0.1).tolist() == [True, True, False, True]
    rng = np.random.default_rng(0)
    for _ in range(300):
        p = rng.integers(1, 41, size=rng.integers(1, 30)) / 40  # the grid of 39 validation images
        q = rng.choice([0.05, 0.1, 0.25])
        assert benjamini_hochberg(p, q).tolist() == step_up(p, q).tolist()


@pytest.mark.parametrize(("k", "n"), [(3, 99), (7, 199), (29, 999)])
def test_rounding_does_not_decide_at_equality(k: int, n: int) -> None:
    m = 100 if n > 200 else 10
    q = m / (n + 1)  # so that q k / m = k / (n + 1), a possible p-value
    p = np.array([k / (n + 1)] * k + [1.0] * (m - k))
    assert benjamini_hochberg(p, q).sum() == k


def test_nothing_of_nothing_is_reported() -> None:
    found = benjamini_hochberg([], 0.1)
    assert found.shape == (0,)
    assert found.dtype == bool


@pytest.mark.parametrize("q", [0, 1, -0.1, 10, float("nan")])
def test_a_share_out_of_range_is_the_users_mistake(q: float) -> None:
    with pytest.raises(UserError, match="`fdr`"):
        benjamini_hochberg([0.5], q)
    with pytest.raises(UserError, match="`fdr`"):
        list(fdr_doubts(100, 100, q))


@pytest.mark.parametrize("p", [np.nan, -0.1, 1.1])
def test_what_is_no_p_value_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([0.5, p], 0.1)


@pytest.mark.parametrize("num_val", [5, 8, 9, 99, 333, 999])
@pytest.mark.parametrize("num_images", [1, 10, 100])
def test_the_doubt_names_the_smallest_number_that_can_be_reported(
    num_val: int, num_images: int
) -> None:
    def reported(num_unusual: int, num_val: int) -> bool:
        scores = np.r_[np.full(num_unusual, 9.0), np.full(num_images - num_unusual, -9.0)]
        return benjamini_hochberg(p_values(scores, np.zeros(num_val)), 0.1).any()

    able = [k for k in range(1, num_images + 1) if reported(k, num_val)]
    sentences = list(fdr_doubts(num_val, num_images, 0.1))
    if able[:1] == [1]:
        assert sentences == []
        return
    (sentence,) = sentences
    enough = 10 * num_images - 1
    assert f"at least {enough} are needed" in sentence
    assert reported(1, enough)
    assert not reported(1, enough - 1)
    assert (f"at least {able[0]} are more" if able else "no image") in sentence


def test_the_share_of_false_alarms_is_kept_over_batches() -> None:
    shares, found = [], []
    ood = np.arange(200) < 40
    for seed in range(400):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=200) + 3 * ood
        reported = benjamini_hochberg(p_values(scores, rng.normal(size=1000)), 0.1)
        shares.append((reported & ~ood).sum() / max(1, reported.sum()))
        found.append(reported[ood].mean())
    assert 0.06 < np.mean(shares) < 0.09  # q times the share of in-distribution images is 0.08
    assert np.mean(found) > 0.7
