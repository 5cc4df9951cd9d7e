"""Gaussians of features: the distances of a whole covariance, in less memory."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from diffusion_ood.methods import gaussians
from diffusion_ood.methods.gaussians import RANK, Gaussian, Standard, Whitened, of_state


def drawn(number: int, size: int, rank: int) -> np.ndarray:
    """Features that vary in some directions, and a little in all (N, D)."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((rank, size))
    noise = 0.05 * rng.standard_normal((number, size))
    return (rng.standard_normal((number, rank)) @ root + noise).astype(np.float32)


def whole(features: np.ndarray) -> Whitened:
    """A Gaussian as files had it: from the whole covariance."""
    mean, std = features.mean(0), features.std(0) + 1e-6
    covariance, _ = ledoit_wolf((features - mean) / std, assume_centered=True)
    variances, basis = np.linalg.eigh(covariance)
    return Whitened(mean, std, (basis / np.sqrt(variances)).astype(np.float32))


@pytest.mark.parametrize(("number", "size"), [(900, 60), (40, 60), (60, 60)])
def test_in_few_dimensions_it_is_the_whole_covariance(number: int, size: int) -> None:
    features = drawn(number + 50, size, 20)
    known, new = features[:number], features
    found = Gaussian.fit(known).distance(new)
    np.testing.assert_allclose(found, whole(known).distance(new), atol=2e-3)


def test_of_many_dimensions_the_most_variable_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussians, "RANK", 30)
    features = drawn(800, 200, 20)
    found = Gaussian.fit(features[:700])
    assert found.basis.shape == (200, 30)
    expected = whole(features[:700]).distance(features)
    assert np.corrcoef(found.distance(features), expected)[0, 1] > 0.99
    np.testing.assert_allclose(found.distance(features), expected, atol=0.1)


def test_it_takes_a_quarter_of_the_memory() -> None:
    features = drawn(600, 1088, 40)  # as many as of `tiny`
    found = Gaussian.fit(features)
    assert found.basis.shape == (1088, RANK)
    size = sum(part.nbytes for part in found.state_dict().values())
    assert size < 4 * (1088**2 + 2 * 1088) / 4  # bytes of a float32


def test_equal_images_have_no_directions_of_their_own() -> None:
    features = drawn(30, 40, 5)
    found = Gaussian.fit(np.concatenate([features, features]))
    assert found.basis.shape[1] <= 30
    np.testing.assert_allclose(found.distance(features), found.distance(features[::-1])[::-1])


def test_what_older_files_hold_is_read_with_equal_numbers() -> None:
    features = drawn(100, 12, 4)
    old = whole(features)
    state = {"mean": old.mean, "std": old.std, "whitening": old.whitening}
    white = (features.astype(np.float64) - old.mean) / old.std @ old.whitening
    expected = np.log(np.square(white).sum(1).clip(min=1e-12)) / 2
    np.testing.assert_array_equal(of_state(state).distance(features), expected)


@pytest.mark.parametrize("kind", [Standard, Gaussian])
def test_a_state_is_read_as_it_was(kind: type[Standard]) -> None:
    features = drawn(100, 12, 4)
    found = kind.fit(features)
    again = of_state(found.state_dict())
    np.testing.assert_array_equal(again.distance(features), found.distance(features))
    np.testing.assert_array_equal(again.mean_square(features), found.mean_square(features))
