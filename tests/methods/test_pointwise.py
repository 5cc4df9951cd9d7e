"""Methods that share their calls: in closed form, and equal alone and together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian import gaussian_diffusion, random_diffusion
from torch import Tensor

from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.features import Features
from diffusion_ood.methods.gaussians import Gaussian
from diffusion_ood.methods.measure import measure
from diffusion_ood.methods.pointwise import measure_together, shared_calls
from diffusion_ood.methods.score_geometry import ScoreGeometry
from diffusion_ood.methods.scores.mse import MeanSquaredError
from diffusion_ood.trajectories.evaluator import Evaluator

VARIANCE, MEAN = 0.01, 0.5
KEYS = [f"{i}.png" for i in range(6)]


def drawn(n: int = 6, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    images = MEAN + VARIANCE**0.5 * torch.randn(n, 1, side, side, generator=generator)
    return images.clamp(0, 1)


def exact() -> Evaluator:
    return Evaluator(gaussian_diffusion(MEAN, VARIANCE), "cpu", compile="off")


def random() -> Evaluator:
    return Evaluator(random_diffusion(), "cpu", compile="off", max_batch=5)


def test_norms_and_traces_are_those_of_a_gaussian() -> None:
    evaluator = exact()
    method = ScoreGeometry(num_levels=6)
    images = drawn()
    found = measure(method, images, evaluator, keys=KEYS)
    schedule = evaluator.diffusion.schedule
    for t, rows in found.groupby("t"):
        alpha = float(schedule.alphas_cumprod(torch.tensor([int(t)])))
        q = alpha * VARIANCE + 1 - alpha
        np.testing.assert_allclose(rows["trace"], 64 * (1 - alpha) / q, rtol=2e-3)
        np.testing.assert_allclose(rows["clean_trace"], 64 * (1 - alpha) / q, rtol=2e-3)
        squared = (images - MEAN).square().flatten(1).sum(1).numpy()
        clean = (1 - alpha) * alpha * squared / q**2
        np.testing.assert_allclose(rows["clean_eps_sq"], clean, rtol=1e-3)


def test_fishers_identity_holds_for_noisy_images() -> None:
    """E N = E C, with var(N / C) = 2 / D: over 200 images within four deviations."""
    images = drawn(200)
    found = measure(ScoreGeometry(num_levels=4), images, exact())
    ratio = (found["eps_sq"] / found["trace"]).groupby(found["t"])
    assert (abs(ratio.mean() - 1) < 4 * np.sqrt(2 / 64 / 200)).all()
    np.testing.assert_allclose(ratio.var(), 2 / 64, rtol=0.5)


def test_one_look_predicts_the_posterior_mean() -> None:
    evaluator = exact()
    images = drawn()
    method = Denoising(num_levels=5, scores=[MeanSquaredError()])
    found = measure(method, images, evaluator, keys=KEYS)
    schedule = evaluator.diffusion.schedule
    for t, rows in found.groupby("t"):
        alpha = float(schedule.alphas_cumprod(torch.tensor([int(t)])))
        expected = (1 - alpha) * VARIANCE / (alpha * VARIANCE + 1 - alpha)
        assert rows["mse"].mean() == pytest.approx(expected, rel=0.35)


def test_together_they_cost_the_union_and_give_the_same_numbers() -> None:
    evaluator = random()
    diffusion, images = evaluator.diffusion, drawn()
    geometry = ScoreGeometry(num_levels=4)
    denoising = Denoising(num_levels=4, scores=[MeanSquaredError()])
    methods = [geometry, denoising]
    assert (geometry.calls(diffusion), denoising.calls(diffusion)) == (24, 4)
    assert shared_calls(methods, diffusion) == 24
    alone = [next(m.measure(ImageBatch(images, KEYS), evaluator)).measured for m in methods]
    before = evaluator.calls
    together = dict(measure_together(methods, ImageBatch(images, KEYS), evaluator))
    assert evaluator.calls - before == 24 * len(images)
    for method, expected in zip(methods, alone, strict=True):
        torch.testing.assert_close(together[method].measured, expected, rtol=1e-3, atol=1e-5)


def test_numbers_do_not_depend_on_the_batch() -> None:
    evaluator, images = random(), drawn()
    method = ScoreGeometry(num_levels=3)
    whole = measure(method, images, evaluator, keys=KEYS)
    parts = measure(method, images, evaluator, keys=KEYS, batch_size=1)
    np.testing.assert_allclose(whole[method.columns[0]], parts[method.columns[0]], rtol=1e-4)


def test_a_gaussian_of_features_is_their_mahalanobis_distance() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 5))
    features = (rng.standard_normal((20_000, 5)) @ root).astype(np.float32)
    found = Gaussian.fit(features).distance(features[:100])
    inverse = np.linalg.inv(np.corrcoef(features.T))
    z = (features[:100] - features.mean(0)) / features.std(0)
    plain = 0.5 * np.log(np.einsum("ni,ij,nj->n", z, inverse, z))
    np.testing.assert_allclose(found, plain, atol=0.02)


def test_features_learn_and_find_what_was_not_there() -> None:
    evaluator = random()
    method = Features(log_snrs=(3.0,))
    known = drawn(60)
    batch = ImageBatch(known, [f"{i}" for i in range(60)])
    method.learn([batch.part(range(40)), batch.part(range(40, 60))], evaluator)
    again = Features(log_snrs=(3.0,))
    again.load_state_dict(method.state_dict())
    images = torch.cat([drawn(6), torch.rand(6, 1, 8, 8, generator=torch.Generator())])
    found = measure(again, images, evaluator)
    usual, odd = found.iloc[:6], found.iloc[6:]
    for column in again.columns:
        assert odd[column].min() > usual[column].max()
    torch.testing.assert_close(
        torch.tensor(found.iloc[:, 2:].to_numpy(np.float64)),
        torch.tensor(measure(method, images, evaluator).iloc[:, 2:].to_numpy(np.float64)),
    )
