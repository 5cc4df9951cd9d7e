"""Every head against a formula, and what all of them have in common."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal, norm
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError

from diffusion_ood.calibration.base import Head, features
from diffusion_ood.calibration.conformal import held_out_scores
from diffusion_ood.calibration.gaussian import LedoitWolfGaussian
from diffusion_ood.calibration.kde import KernelDensity
from diffusion_ood.calibration.mixture import Mixture
from diffusion_ood.calibration.neighbours import NearestNeighbours
from diffusion_ood.calibration.pca import PCAResidual
from diffusion_ood.errors import UserError
from diffusion_ood.registries import HEADS


def frame(values: np.ndarray) -> pd.DataFrame:
    """Features of one column, a level each."""
    names = [f"{i}.png" for i in range(len(values))]
    columns = pd.MultiIndex.from_product([["a"], range(values.shape[1])])
    return pd.DataFrame(values, index=names, columns=columns)


def correlated(n: int, seed: int = 0) -> np.ndarray:
    """Normal values `(n, 3)` of unequal spread that correlate."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) @ np.array([[3.0, 1, 0], [0, 0.5, 0.2], [0, 0, 0.1]]) + 7


def standardised(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (values - by.mean(0)) / by.std(0, ddof=1)


TRAIN, TEST = correlated(300), 2 * correlated(40, seed=1) - 7


def scored(head: Head, train: np.ndarray = TRAIN, test: np.ndarray = TEST) -> np.ndarray:
    return head.fit(frame(train)).score(frame(test)).to_numpy()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_not_fitted_says_so(name: str) -> None:
    with pytest.raises(NotFittedError):
        HEADS[name]().score(frame(TEST))


def test_the_gaussian_is_the_mahalanobis_distance_of_the_shrunken_covariance() -> None:
    z, points = standardised(TEST, TRAIN), standardised(TRAIN, TRAIN)
    covariance = LedoitWolf().fit(points).covariance_
    expected = cdist(z, np.zeros((1, 3)), "mahalanobis", VI=np.linalg.inv(covariance))[:, 0] ** 2
    np.testing.assert_allclose(scored(LedoitWolfGaussian()), expected, rtol=1e-9)


def test_a_mixture_of_one_is_half_the_mahalanobis_distance_and_a_constant() -> None:
    z, points = standardised(TEST, TRAIN), standardised(TRAIN, TRAIN)
    covariance = np.cov(points.T, ddof=0) + 1e-6 * np.eye(3)
    squared = cdist(z, np.zeros((1, 3)), "mahalanobis", VI=np.linalg.inv(covariance))[:, 0] ** 2
    constant = np.linalg.slogdet(covariance)[1] / 2 + 1.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(scored(Mixture(1)), squared / 2 + constant, rtol=1e-9)


def test_a_mixture_takes_as_many_gaussians_as_there_are_and_as_images_allow() -> None:
    rng = np.random.default_rng(3)
    train = np.concatenate([rng.normal(at, 1, (200, 2)) for at in (-20, 0, 20)])
    head = Mixture().fit(frame(train))
    assert len(head.state_dict()["weights"]) == 3
    z, by = np.array([[1.0, 2], [-19, -21], [10, 10]]), train
    state = head.state_dict()
    density = sum(
        w * multivariate_normal(m, np.linalg.inv(p @ p.T)).pdf(standardised(z, by))
        for w, m, p in zip(
            state["weights"], state["means"], state["precisions_cholesky"], strict=True
        )
    )
    np.testing.assert_allclose(head.score(frame(z)), -np.log(density), rtol=1e-9)
    assert len(Mixture().fit(frame(train[::200])).state_dict()["weights"]) == 1


def test_the_kernel_density_is_silvermans_sum_over_features() -> None:
    train = np.array([[0.0, 1], [1, 5], [2, 5], [4, 5], [9, 5]])  # the second has equal quartiles
    test = np.array([[3.0, 4], [-3, 5]])
    z, points = standardised(test, train), standardised(train, train)
    expected = np.zeros(2)
    for j, spread in enumerate((min(1, 3 / 1.34 / train[:, 0].std(ddof=1)), 1)):
        h = 0.9 * spread * 5**-0.2
        expected -= np.log(norm.pdf(z[:, j, None], points[:, j], h).mean(axis=1))
    np.testing.assert_allclose(scored(KernelDensity(), train, test), expected, rtol=1e-9)
    assert np.isfinite(scored(KernelDensity(), train, np.array([[1e9, -1e9]]))).all()


@pytest.mark.parametrize(("k", "num"), [(5, 300), (3, 300), (5, 4)])
def test_neighbours_are_the_nearest_by_every_distance(k: int, num: int) -> None:
    train = TRAIN[:num]
    distances = cdist(standardised(TEST, train), standardised(train, train))
    expected = np.sort(distances, axis=1)[:, : min(k, num)].mean(axis=1)
    np.testing.assert_allclose(scored(NearestNeighbours(k), train), expected, rtol=1e-12)


def test_the_residual_of_data_in_a_plane_is_the_distance_from_it() -> None:
    rng = np.random.default_rng(2)
    plane = rng.normal(size=(100, 2)) @ np.array([[1.0, 0, 1], [0, 1, 1]])
    train = plane / plane.std(axis=0, ddof=1)
    normal = np.linalg.svd(train - train.mean(0))[2][2]
    test = train[:4] + np.array([0, 0.5, -2, 10])[:, None] * normal
    np.testing.assert_allclose(scored(PCAResidual(), train, test), [0, 0.5, 2, 10], atol=1e-12)


def test_of_one_feature_the_residual_is_all() -> None:
    found = scored(PCAResidual(), TRAIN[:, :1], TEST[:, :1])
    np.testing.assert_allclose(found, abs(standardised(TEST[:, 0], TRAIN[:, 0])), rtol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_deterministic_finite_and_restored_exactly(name: str) -> None:
    head, again, restored = HEADS[name](), HEADS[name](), HEADS[name]()
    scores = head.fit(frame(TRAIN)).score(frame(TEST))
    assert np.isfinite(scores).all()
    assert list(scores.index) == [f"{i}.png" for i in range(len(TEST))]
    pd.testing.assert_series_equal(
        scores, again.fit(frame(TRAIN)).score(frame(TEST)), check_exact=True
    )
    state = head.state_dict()
    assert all(isinstance(v, np.ndarray | int | float | list) for v in state.values())
    restored.load_state_dict(state)
    pd.testing.assert_series_equal(scores, restored.score(frame(TEST)), check_exact=True)


@pytest.mark.parametrize("name", HEADS)
def test_far_images_score_higher_than_others(name: str) -> None:
    far = frame(TRAIN.mean(0) + 50 * TRAIN.std(0)[None] * [[1, 1, 1]])
    head = HEADS[name]().fit(frame(TRAIN))
    if name == "pca":  # the direction that the components leave out
        far = frame(TRAIN.mean(0) + 50 * TRAIN.std(0)[None] * [[1, -1, -1]])
    assert head.score(far).iloc[0] > head.score(frame(TRAIN)).max()


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"zscore", "highest"}))
def test_a_constant_feature_changes_nothing(name: str) -> None:
    def constant(values: np.ndarray, level: float) -> np.ndarray:
        return np.column_stack([np.full(len(values), level), values])

    padded = HEADS[name]().fit(frame(constant(TRAIN, 0.1))).score(frame(constant(TEST, 5)))
    alone = HEADS[name]().fit(frame(TRAIN)).score(frame(TEST))
    np.testing.assert_allclose(padded, alone, rtol=1e-12)
    with pytest.raises(UserError, match="a at t = 0"):
        HEADS[name]().fit(frame(np.full((9, 2), 0.1)))


@pytest.mark.parametrize("name", HEADS)
def test_three_images_are_enough(name: str) -> None:
    assert np.isfinite(scored(HEADS[name](), TRAIN[:3])).all()


@pytest.mark.parametrize("name", HEADS)
def test_two_images_are_too_few_to_hold_one_out(name: str) -> None:
    with pytest.raises(UserError, match=r"found 2 .* at least 4"):
        held_out_scores(HEADS[name], frame(TRAIN[:2]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("column", ["a", "b"])
def test_numbers_that_are_not_finite_make_no_features(column: str, wrong: float) -> None:
    """Averaged over repeats, a NaN would be left out."""
    rows = [(image, 7, repeat, 1.0, 2.0) for image in ("x.png", "y.png") for repeat in (0, 1)]
    table = pd.DataFrame(rows, columns=["filename", "t", "repeat", "a", "b"])
    table.loc[2, column] = wrong
    with pytest.raises(UserError, match=f"y.png, t = 7: {column} is"):
        features(table)
