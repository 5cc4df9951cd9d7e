"""The Fréchet distance against closed forms and an independent matrix root."""

import numpy as np
import pytest
from scipy import linalg

from diffusion_ood.quality.frechet import frechet_distance, mean_and_covariance, moments


def exact(mean, covariance, count=1000):
    """Moments of a set that has this very mean and covariance."""
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    products = covariance * (count - 1) + count * np.outer(mean, mean)
    total = count * mean
    return np.block([[np.full((1, 1), count), total[None]], [total[:, None], products]])


def spread(rng, d):
    a = rng.normal(size=(d, d))
    return a @ a.T + 0.1 * np.eye(d)


def test_gaussians_of_one_dimension_have_a_closed_form():
    """(μ_a − μ_b)² + (σ_a − σ_b)²."""
    found = frechet_distance(exact([1.0], [[4.0]]), exact([3.5], [[0.25]]))
    assert found == pytest.approx(2.5**2 + 1.5**2, rel=1e-12)


def test_gaussians_whose_covariances_commute_have_a_closed_form():
    """‖μ_a − μ_b‖² + Σ (σ_a,i − σ_b,i)² in the common axes."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    s, t = rng.uniform(0.1, 3, (2, 5))
    mean = rng.normal(size=(2, 5))
    a, b = exact(mean[0], (axes * s**2) @ axes.T), exact(mean[1], (axes * t**2) @ axes.T)
    expected = ((mean[0] - mean[1]) ** 2).sum() + ((s - t) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_it_equals_the_formula_with_scipys_matrix_root():
    rng = np.random.default_rng(1)
    for d in (2, 7, 20):
        covariances = spread(rng, d), spread(rng, d)
        means = rng.normal(size=(2, d))
        root = linalg.sqrtm(covariances[0] @ covariances[1]).real
        expected = ((means[0] - means[1]) ** 2).sum()
        expected += np.trace(covariances[0] + covariances[1] - 2 * root)
        a, b = (exact(means[k], covariances[k]) for k in (0, 1))
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
        assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def test_a_set_is_at_no_distance_from_itself_even_with_fewer_images_than_features():
    features = np.random.default_rng(2).normal(size=(6, 40)).astype(np.float32)
    found = moments(features)
    assert frechet_distance(found, found) == pytest.approx(0, abs=1e-9)


def test_moments_add_up_in_any_parts():
    features = np.random.default_rng(3).normal(100, 1e-2, size=(500, 4)).astype(np.float32)
    total = sum(moments(part) for part in np.split(features, [0, 1, 130, 499]))
    assert total[0, 0] == 500
    mean, covariance = mean_and_covariance(total)
    # numbers that differ in their fifth digit: sums in float32 would know nothing of them
    np.testing.assert_allclose(mean, features.astype(float).mean(0), rtol=1e-12)
    expected = np.cov(features.astype(float), rowvar=False)
    np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-9)
