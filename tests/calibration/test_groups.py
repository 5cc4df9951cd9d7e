"""Scores of groups by hand, and the law of their p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from diffusion_ood.calibration.groups import (
    group_doubts,
    group_names,
    group_p_values,
    group_scores,
)
from diffusion_ood.errors import UserError


def test_names_give_groups_and_the_one_without_is_named() -> None:
    assert group_names(["p1/a.png", "p2/a.png", "p1/b.png"], r"^(\w+)/") == ["p1", "p2", "p1"]
    with pytest.raises(UserError, match=r"x\.png.*`group_by`"):
        group_names(["p1.png", "x.png"], r"p\d")


def test_the_highest_quarter_rounded_up_counts() -> None:
    scores = [1, 5, 2, 3, 4, 10, 7, 8, 9]
    groups = ["b", "b", "b", "b", "b", "a", "c", "c", "c"]
    found = group_scores(scores, groups)
    assert found.index.tolist() == ["b", "a", "c"]
    assert found.tolist() == [4.5, 10, 9]  # two of five, one of one, one of three


def test_scores_of_groups_are_free_of_the_order_of_images() -> None:
    rng = np.random.default_rng(0)
    scores, groups = rng.normal(size=500), rng.integers(0, 20, size=500).astype(str)
    order = rng.permutation(500)
    expected, found = group_scores(scores, groups), group_scores(scores[order], groups[order])
    assert found.reindex(expected.index).tolist() == expected.tolist()


def test_p_values_are_those_among_validation_groups() -> None:
    found = group_p_values([9, 0, 2.5], ["x", "x", "y"], [1, 0, 2, 0, 3], list("aabbc"))
    assert found["group"].tolist() == ["x", "y"]
    assert found["num_images"].tolist() == [2, 1]
    assert found["score"].tolist() == [9, 2.5]
    assert found["p_value"].tolist() == [1 / 4, 2 / 4]


def simulated(rng: np.random.Generator, num_groups: int, correlated: float) -> tuple:
    """Scores of images of groups of 1 to 12, and the groups' numbers."""
    sizes = rng.integers(1, 13, size=num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    common = rng.normal(size=num_groups)[groups]
    own = rng.normal(size=len(groups))
    return np.sqrt(correlated) * common + np.sqrt(1 - correlated) * own, groups


@pytest.mark.parametrize("correlated", [0, 0.5, 0.95])
def test_p_values_of_exchangeable_groups_are_uniform(correlated: float) -> None:
    # 20 groups of a time, of which 19 validate: uniform on 1/20, …, 20/20, exactly.
    scores, groups = simulated(np.random.default_rng(3), 20 * 5000, correlated)
    of_groups = group_scores(scores, groups).to_numpy().reshape(5000, 20)
    rank = (of_groups[:, 1:] >= of_groups[:, :1]).sum(axis=1)
    counts = np.bincount(rank, minlength=20)
    assert ((counts - 250) ** 2 / 250).sum() < 43.8  # 99.9 % quantile, 19 degrees of freedom

    p, smallest = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        val, new = simulated(rng, 40, correlated), simulated(rng, 1, correlated)
        p.append(group_p_values(*new, *val)["p_value"][0])
        each = [(1 + (val[0] >= score).sum()) / (len(val[0]) + 1) for score in new[0]]
        smallest.append(min(each))
    assert kstest(np.array(p) - rng.random(300) / 41, "uniform").pvalue > 0.01
    if correlated < 0.9:  # the smallest of many is not uniform
        assert kstest(smallest, "uniform").pvalue < 1e-6


def test_one_bad_slice_of_four_and_a_shift_of_all_are_seen() -> None:
    found = {"slice": [], "all": []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        val, groups = rng.normal(size=400), np.repeat(np.arange(100), 4)
        bad = rng.normal(size=4)
        for name, shift in (("slice", np.array([4, 0, 0, 0])), ("all", 2)):
            found[name].append(group_p_values(bad + shift, [0] * 4, val, groups)["p_value"][0])
    assert np.mean(np.array(found["slice"]) <= 0.05) > 0.9
    assert np.mean(np.array(found["all"]) <= 0.05) > 0.7


def test_doubts_name_too_few_groups_and_other_sizes() -> None:
    pairs, many = [f"{i // 2}" for i in range(300)], [f"{i // 4}" for i in range(40)]
    assert list(group_doubts(pairs, pairs, 0.05)) == []
    (few,) = group_doubts(pairs, pairs[:36], 0.05)
    assert "18 validation groups" in few
    assert "19" in few
    (sizes,) = group_doubts(many, pairs, 0.05)
    assert "at most 4 images" in sizes
    assert "at most 2" in sizes
    assert list(group_doubts([], pairs, 0.05)) == []


@pytest.mark.parametrize("groups", [["a"], ["a", "b", "c"]])
def test_as_many_groups_as_scores(groups: list[str]) -> None:
    with pytest.raises(ValueError, match="2"):
        group_scores([1, 2], groups)
