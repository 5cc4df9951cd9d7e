"""Maps: their evidence in closed form, free beside denoising, and calibrated pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian import gaussian_diffusion, random_diffusion
from scipy.ndimage import gaussian_filter

from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.pixel_maps import FLOOR, SMOOTHING, PixelCalibration, PixelMaps
from diffusion_ood.methods.pointwise import measure_together, shared_calls
from diffusion_ood.methods.scores.mse import MeanSquaredError
from diffusion_ood.registries import METHODS
from diffusion_ood.trajectories.evaluator import Evaluator

VARIANCE, MEAN = 0.01, 0.5


def drawn(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    images = MEAN + VARIANCE**0.5 * torch.randn(n, 1, 8, 8, generator=generator)
    return images.clamp(0, 1)


def raw(method: PixelMaps, images: torch.Tensor, evaluator: Evaluator) -> np.ndarray:
    keys = [f"{i}.png" for i in range(len(images))]
    (rows,) = method.measure(ImageBatch(images, keys), evaluator)
    return rows.measured.numpy()


def test_evidence_is_what_the_denoiser_of_a_gaussian_leaves() -> None:
    evaluator = Evaluator(gaussian_diffusion(MEAN, VARIANCE), "cpu", compile="off")
    method = PixelMaps(num_levels=3)
    images = drawn(400)
    found = raw(method, images, evaluator).reshape(400, 3, 2, 8, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, :, 0], found[:, :, 1] ** 2, rtol=1e-5)
    for number, (t, _) in enumerate(method.draws(evaluator.diffusion)):
        alpha = float(evaluator.diffusion.schedule.alphas_cumprod(torch.tensor([t])))
        posterior = VARIANCE * (1 - alpha) / (alpha * VARIANCE + 1 - alpha)
        np.testing.assert_allclose(found[:, number, 0].mean(), posterior, rtol=0.05)


def test_an_error_that_cancels_over_channels_is_in_one_kind_alone() -> None:
    diffusion = random_diffusion((3, 8, 8))
    evaluator = Evaluator(diffusion, "cpu", compile="off")
    sides = diffusion.image_shape[1:]
    images = torch.rand(3, *diffusion.image_shape, generator=torch.Generator().manual_seed(0))
    error, difference = np.moveaxis(
        raw(PixelMaps(num_levels=2), images, evaluator).reshape(3, 2, 2, *sides), 2, 0
    )
    assert (error >= difference**2 - 1e-6 * error.max()).all()
    assert (error > 2 * difference**2).mean() > 0.2


def test_beside_denoising_they_cost_nothing_and_change_nothing() -> None:
    evaluator = Evaluator(random_diffusion(), "cpu", compile="off", max_batch=5)
    denoising = Denoising(num_levels=3, repeats=2, scores=[MeanSquaredError()], seed=4)
    method = PixelMaps.beside(denoising)
    diffusion = evaluator.diffusion
    assert method.points(diffusion) == denoising.points(diffusion)
    assert shared_calls([denoising, method], diffusion) == denoising.calls(diffusion) == 6
    images = torch.rand(4, *diffusion.image_shape, generator=torch.Generator().manual_seed(0))
    batch = ImageBatch(images, list("abcd"))
    together = dict(measure_together([denoising, method], batch, evaluator))[method].measured
    assert evaluator.calls == 6 * 4
    (alone,) = method.measure(batch, evaluator)
    torch.testing.assert_close(together, alone.measured)
    pixels = int(np.prod(diffusion.image_shape[1:]))
    assert together.shape == (4, 6, 2 * pixels)
    assert "pixel_maps" not in METHODS


def evidence(n: int, sides: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(n, 3, 2, *sides)).astype(np.float32)
    found[:, :, 0] = found[:, :, 0] ** 2 * 4
    found[..., 0] = 0  # a border that never varies
    return found.reshape(n, 3, -1)


@pytest.mark.parametrize("sides", [(12, 9), (6, 8, 7)])
def test_a_map_is_the_joined_z_of_each_pixel(sides: tuple[int, ...]) -> None:
    values = evidence(40, sides)
    calibration = PixelCalibration(sides)
    for part in np.array_split(values, 7):
        calibration.update(torch.from_numpy(part))
    calibration.finish()
    found = calibration.maps(values[:5])
    assert found.dtype == np.float32
    assert found.shape == (5, *sides)
    split = values.reshape(40, 3, 2, *sides).astype(np.float64)
    expected = np.zeros((5, *sides))
    for draw in range(3):
        for kind, v in enumerate((split[:, draw, 0] ** 0.5, split[:, draw, 1])):
            s = np.sqrt(v.var(0) + FLOOR**2 * v.var(0).mean())
            z = (v[:5] - v.mean(0)) / s
            expected += (abs(z) if kind else z.clip(0)) / 6
    expected = np.stack([gaussian_filter(m, [SMOOTHING * s for s in sides]) for m in expected])
    assert np.abs(found - expected).mean() < 0.02  # borders are padded in another way
    inner = (slice(None), *[slice(2, -2)] * len(sides))
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)


def test_a_calibration_depends_on_no_division_and_is_kept() -> None:
    values = evidence(20, (8, 8))
    kept = []
    for parts in (1, 3, 20):
        calibration = PixelCalibration((8, 8))
        for part in np.array_split(values, parts):
            calibration.update(part)
        calibration.finish()
        kept.append(calibration)
    for other in kept[1:]:
        for name, array in kept[0].state_dict().items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(other.state_dict()[name], array)
    loaded = PixelCalibration((8, 8))
    state = {name: torch.from_numpy(array) for name, array in kept[0].state_dict().items()}
    loaded.load_state_dict(state)
    np.testing.assert_array_equal(loaded.maps(values), kept[0].maps(values))
    whole = kept[0].maps(values)
    np.testing.assert_array_equal(np.concatenate([kept[0].maps(v[None]) for v in values]), whole)
    with pytest.raises(ValueError, match="expected"):
        PixelCalibration((8, 9)).load_state_dict(state)


def test_what_never_varies_is_finite_and_one_image_is_too_few() -> None:
    calibration = PixelCalibration((4, 4))
    calibration.update(np.zeros((1, 2, 32)))
    with pytest.raises(ValueError, match="found 1"):
        calibration.finish()
    calibration.update(np.zeros((1, 2, 32)))
    calibration.finish()
    assert np.isfinite(calibration.maps(np.ones((1, 2, 32)))).all()
