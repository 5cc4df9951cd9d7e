"""The methods of the literature, where their numbers are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gaussian import gaussian_diffusion, random_diffusion
from torch import Tensor

from diffusion_ood.diffusion.levels import log_snr
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.compressed import compressed_bits
from diffusion_ood.methods.controls import Controls, untrained
from diffusion_ood.methods.eigenscore import EigenScore
from diffusion_ood.methods.equivariance import Equivariance
from diffusion_ood.methods.inpainting import Inpainting, checkerboard
from diffusion_ood.methods.likelihood import Likelihood
from diffusion_ood.methods.measure import measure
from diffusion_ood.methods.path import Path
from diffusion_ood.methods.pointwise import PointwiseMethod, shared_calls
from diffusion_ood.methods.projection_regret import ProjectionRegret
from diffusion_ood.methods.score_geometry import ScoreGeometry
from diffusion_ood.methods.scores.mse import MeanSquaredError
from diffusion_ood.trajectories.evaluator import Evaluator

MEAN, VARIANCE, D = 0.5, 0.01, 64
MSE = MeanSquaredError()


def drawn(n: int = 6, variance: float = VARIANCE) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return MEAN + variance**0.5 * torch.randn(n, 1, 8, 8, generator=generator)


def exact(variance: float = VARIANCE, mean: float = MEAN) -> Evaluator:
    return Evaluator(gaussian_diffusion(mean, variance), "cpu", compile="off")


def alpha_of(evaluator: Evaluator, t: int) -> float:
    return float(evaluator.diffusion.schedule.alphas_cumprod(torch.tensor([t])))


def values(method: PointwiseMethod, images: Tensor, evaluator: Evaluator) -> np.ndarray:
    """As `measure`, of images that may be outside [0, 1] as a Gaussian's are."""
    batch = ImageBatch(images, [f"{i}.png" for i in range(len(images))])
    return torch.cat([rows.measured for rows in method.measure(batch, evaluator)]).numpy()


def test_the_path_is_the_product_of_its_linear_steps() -> None:
    """With data about zero each step multiplies the image by a known factor."""
    evaluator = exact(mean=0.0)
    method = Path(clip=False)
    images = drawn() - MEAN
    found = values(method, images, evaluator)[:, 0]
    levels = method.levels(evaluator.diffusion)
    assert len(levels) == method.calls(evaluator.diffusion) == 10
    x, eps = images.flatten(1).double(), []
    alphas = [alpha_of(evaluator, t) for t in levels]
    for now, then in zip(alphas, [*alphas[1:], None], strict=True):
        variance = now * VARIANCE + 1 - now
        eps.append(x * math.sqrt(1 - now) / variance)
        if then is not None:
            both = math.sqrt(now * then) * VARIANCE + math.sqrt((1 - now) * (1 - then))
            x = x * both / variance
    path = torch.stack(eps)
    change = path.diff(dim=0) * 10
    expected = [p.pow(k).sum((0, 2)) for p in (path, change) for k in (1, 2, 3)]
    np.testing.assert_allclose(found, torch.stack(expected, 1), rtol=2e-3, atol=2e-3)
    negated = values(method, -images, evaluator)[:, 0]
    np.testing.assert_allclose(negated * [-1, 1, -1, -1, 1, -1], found, rtol=1e-5)


def test_predictions_on_the_path_are_clipped_to_the_range_of_images() -> None:
    evaluator = exact(variance=4.0)
    first = Path().run(torch.full((1, 1, 8, 8), 3.0), evaluator)[0]
    alpha = alpha_of(evaluator, Path().levels(evaluator.diffusion)[0])
    expected = (3 - math.sqrt(alpha)) / math.sqrt(1 - alpha)
    np.testing.assert_allclose(first, expected, rtol=1e-4)


def test_projection_regret_of_a_gaussian() -> None:
    """S = (1−k_b)² ((1−k_a²)|x|² − k_a² σ_a² D) / D with k = v / (v + σ²), about the mean."""
    evaluator = exact()
    method = ProjectionRegret(scores=[MSE], draws_a=64, draws_b=16)
    images = drawn(40)
    found = values(method, images, evaluator)[:, 0, 0]
    assert method.calls(evaluator.diffusion) == 64 + 16 + 1024
    sigma_a, sigma_b = (1 / alpha_of(evaluator, t) - 1 for t in method.levels(evaluator.diffusion))
    k_a, k_b = VARIANCE / (VARIANCE + sigma_a), VARIANCE / (VARIANCE + sigma_b)
    squared = (images - MEAN).flatten(1).square().sum(1).numpy()
    expected = (1 - k_b) ** 2 * ((1 - k_a**2) * squared - k_a**2 * sigma_a * D) / D
    assert np.corrcoef(found, expected)[0, 1] > 0.9
    assert found.mean() == pytest.approx(expected.mean(), rel=0.1)


def test_every_eigenvalue_of_an_isotropic_gaussian_is_the_same() -> None:
    evaluator = exact()
    method = EigenScore(iterations=3)
    found = measure(method, drawn().clamp(0, 1), evaluator)
    assert method.calls(evaluator.diffusion) == 2 * 2 * 3
    for t, rows in found.groupby("t"):
        alpha = alpha_of(evaluator, int(t))
        expected = VARIANCE * (1 - alpha) / (alpha * VARIANCE + 1 - alpha)
        np.testing.assert_allclose(rows["eigenvalue"], expected, rtol=5e-3)


def test_the_power_method_finds_the_largest_eigenvalue() -> None:
    """Of a diagonal covariance S: S_1 (1−ᾱ) / (ᾱ S_1 + 1 − ᾱ)."""
    evaluator = exact()
    spread = torch.full((1, 1, 8, 8), 1e-3)
    spread[..., 3, 4] = 0.5
    evaluator.diffusion.network.variance = spread
    found = measure(EigenScore(iterations=12), drawn().clamp(0, 1), evaluator)
    for t, rows in found.groupby("t"):
        alpha = alpha_of(evaluator, int(t))
        expected = 0.5 * (1 - alpha) / (alpha * 0.5 + 1 - alpha)
        np.testing.assert_allclose(rows["eigenvalue"], expected, rtol=1e-2)


def test_an_isotropic_gaussian_turns_with_the_image() -> None:
    found = measure(Equivariance(), drawn().clamp(0, 1), exact())
    np.testing.assert_allclose(found[list(Equivariance.columns)], 0, atol=1e-5)
    random = Evaluator(random_diffusion(), "cpu", compile="off")
    other = measure(Equivariance(), drawn().clamp(0, 1), random)
    assert (other["residual"] > 1e-3).all()
    assert (other["residual_top"] <= other["residual"].max() * 10).all()
    assert Equivariance().calls(random.diffusion) == 8


def test_what_is_given_is_unchanged_by_inpainting() -> None:
    evaluator = exact()
    images = drawn().clamp(0, 1)
    batch = ImageBatch(images, [str(i) for i in range(len(images))])
    first, second = Inpainting(scores=[MSE]).fill_in(batch, evaluator)
    board = checkerboard((8, 8)).expand_as(images)
    torch.testing.assert_close(first[board], images[board])
    torch.testing.assert_close(second[~board], images[~board])
    assert (first[~board] != images[~board]).all()
    found = measure(Inpainting(scores=[MSE]), images, evaluator)["inpainted_mse"]
    # Filled in is a draw that knows nothing of the image: E = 2 v over half of the pixels.
    assert found.mean() == pytest.approx(VARIANCE, rel=0.35)


@pytest.mark.parametrize("side", [8, 28, 32, 5])
def test_a_checkerboard_has_eight_blocks_a_side_or_a_pixel_each(side: int) -> None:
    board = checkerboard((side, side))[0, 0]
    assert int((board[0, 1:] != board[0, :-1]).sum()) + 1 == min(8, side)
    assert (board == board.T).all()
    assert abs(board.float().mean() - 0.5) <= 1 / side


def test_the_bound_is_the_integral_of_a_gaussian() -> None:
    """½ ∫ D v e^λ / (v e^λ + 1) dλ = D/2 · [ln(v e^λ + 1)], λ of the data's own range."""
    evaluator = exact()
    method = Likelihood(num_levels=20)
    found = values(method, drawn(200), evaluator)[:, 0, 0]
    diffusion = evaluator.diffusion
    times = sorted({t for t, _ in method.all_draws(diffusion)})
    ends = log_snr(diffusion.schedule, (-1.0, 1.0))[[times[0], times[-1]]].exp().numpy()
    expected = D / 2 * float(np.log(VARIANCE * ends + 1) @ [1, -1]) / math.log(2)
    assert found.mean() == pytest.approx(expected, rel=0.03)


def test_what_is_hard_to_compress_has_more_bits() -> None:
    flat = torch.full((1, 28, 28), 0.5)
    noise = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert compressed_bits(flat) < 2_000 < 5_500 < compressed_bits(noise) < 9_000
    assert compressed_bits(noise.expand(3, -1, -1)) > compressed_bits(noise)
    assert compressed_bits(noise.expand(4, -1, -1)[None]) > 3 * compressed_bits(noise)


def test_controls_are_of_the_pixels_and_of_a_network_that_never_learned() -> None:
    diffusion = random_diffusion()
    evaluator = Evaluator(diffusion, "cpu", compile="off")
    images = drawn().clamp(0, 1)
    found = measure(Controls(), images, evaluator)
    np.testing.assert_allclose(found["pixel_mean"], images.flatten(1).mean(1), rtol=1e-5)
    np.testing.assert_allclose(found["pixel_std"], images.flatten(1).std(1), rtol=1e-5)
    assert (found["untrained_eps_sq"] > 0).all()
    assert evaluator.calls == 0
    first, second = untrained(diffusion, 2), untrained(diffusion, 2)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_all_methods_together_cost_less_than_one_after_the_other() -> None:
    diffusion = random_diffusion()
    geometry, likelihood = ScoreGeometry(), Likelihood()
    assert shared_calls([geometry, likelihood], diffusion) == geometry.calls(diffusion) == 60
    eigen = EigenScore()
    assert eigen.calls(diffusion) == 2 * 2 * 8


@pytest.mark.parametrize(
    "method",
    [
        Path(),
        ProjectionRegret(scores=[MSE]),
        EigenScore(iterations=2),
        Equivariance(),
        Inpainting(steps=3, scores=[MSE]),
        Likelihood(),
        Controls(),
    ],
    ids=lambda method: method.name,
)
def test_numbers_do_not_depend_on_the_batch(method: PointwiseMethod) -> None:
    evaluator = Evaluator(random_diffusion(), "cpu", compile="off", max_batch=5)
    keys, images = [f"{i}.png" for i in range(6)], drawn().clamp(0, 1)
    whole = measure(method, images, evaluator, keys=keys)
    parts = measure(method, images, evaluator, keys=keys, batch_size=1)
    columns = list(method.columns)
    scale = whole[columns].abs().max()
    np.testing.assert_allclose(parts[columns] / scale, whole[columns] / scale, atol=1e-3)
    assert whole[columns[0]].nunique() > 1
