"""The objective: its targets, its draws, and the validation loss on fixed ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions, ImageOptions, LoadingOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch
from diffusion_ood.trajectories.noise import image_noise

PREDICTIONS = ["epsilon", "sample", "v_prediction"]


@pytest.fixture
def validation(splits: Path) -> ImageSet:
    """The six validation images."""
    return open_images(
        read_split(splits / "A_val.csv"),
        ImageOptions(is_grayscale=True),
        LoadingOptions(num_workers=0),
        progress=False,
    )


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Twelve random images."""
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def objective(max_t: int = 1000, **options: object) -> DiffusionObjective:
    model = Diffusion(DiffusionOptions(model_type="tiny", **options), (1, 8, 8))
    return DiffusionObjective(model, max_t)


def oracle(of: str, model: Diffusion, x_0: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A network that knows the clean images, and so answers `of` exactly."""

    def answer(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = (rate.float() for rate in model.schedule.alpha_sigma(t, x_t.ndim))
        eps = (x_t - signal * x_0) / noise
        return {"epsilon": eps, "sample": x_0, "v_prediction": signal * eps - noise * x_0}[of]

    return answer


def zero(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x_t)


class Recorder:
    """A network that answers zero and keeps the times it was asked at."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Zero, of the shape of `x_t`."""
        self.times += t.tolist()
        return zero(x_t, t)


@pytest.mark.parametrize("asked", PREDICTIONS)
@pytest.mark.parametrize("answered", PREDICTIONS)
def test_the_loss_is_zero_for_the_own_target_alone(
    asked: str, answered: str, images: Tensor
) -> None:
    objective_ = objective(prediction_type=asked)
    network = oracle(answered, objective_.model, images)
    losses = objective_.loss(network, Batch(images, 12), seed=1)
    assert losses.shape == (12,)
    assert (losses.max() < 1e-8) if asked == answered else (losses.mean() > 0.05)


def test_the_loss_is_on_the_models_own_range(images: Tensor) -> None:
    scaled = objective(prediction_type="sample", b_scale=0.5)
    network = oracle("sample", scaled.model, 0.5 * images)
    assert scaled.loss(network, Batch(images, 12), seed=1).max() < 1e-12


def test_each_loss_is_the_mean_over_an_images_pixels(images: Tensor) -> None:
    """Against x̂_0 = 0 it is the mean square of the image, whatever the noise."""
    losses = objective(prediction_type="sample").loss(zero, Batch(images, 12), seed=1)
    torch.testing.assert_close(losses, images.square().mean((1, 2, 3)))


@pytest.mark.parametrize("processes", [2, 5])
def test_the_draws_belong_to_the_global_batch(processes: int, images: Tensor) -> None:
    objective_ = objective()
    whole = objective_.loss(zero, Batch(images, 12), seed=1)
    for rank in range(processes):
        mine = slice(rank, None, processes)
        assert torch.equal(
            objective_.loss(zero, Batch(images[mine], 12, shard=mine), seed=1), whole[mine]
        )
    assert not torch.isclose(objective_.loss(zero, Batch(images, 12), seed=2), whole).any()


@pytest.mark.parametrize("max_t", [1, 3, 1000])
def test_times_are_drawn_evenly_below_max_t(max_t: int) -> None:
    recorder = Recorder()
    images = torch.zeros(3000, 1, 1, 1)
    objective(max_t).loss(recorder, Batch(images, 3000), seed=0)
    times = torch.tensor(recorder.times)
    assert (times.min() >= 0) & (times.max() < max_t)
    assert times.double().mean() == pytest.approx((max_t - 1) / 2, rel=0.05)
    assert times.unique().numel() > 0.9 * max_t


@pytest.mark.parametrize("max_t", [1000, 40, 2])
def test_validation_takes_one_time_from_each_quarter(max_t: int, validation: ImageSet) -> None:
    recorder = Recorder()
    objective(max_t).validation_loss(recorder, validation, [[4]], seed=3)
    quarters = [int(4 * (t + 0.5) / max_t) for t in recorder.times]
    assert len(recorder.times) == 4
    assert max(recorder.times) < max_t
    assert max_t == 2 or quarters == [0, 1, 2, 3]


def test_validation_is_the_mean_over_images_and_times_of_their_own_noise(
    validation: ImageSet,
) -> None:
    """Against ε̂ = 0 an image's loss is the mean square of its noise."""
    expected = []
    objective_ = objective()
    for index, key in enumerate(validation.split.images):
        recorder = Recorder()
        objective_.validation_loss(recorder, validation, [[index]], seed=3)
        expected += [image_noise((1, 8, 8), 3, key, t).square().mean() for t in recorder.times]
    found = objective_.validation_loss(zero, validation, [[0, 1, 2, 3], [4, 5]], seed=3)
    assert len(expected) == 24
    assert found == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)
    assert found != pytest.approx(
        objective_.validation_loss(zero, validation, [list(range(6))], seed=4), rel=1e-3
    )


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4, 5]], [[0], [1], [2], [3], [4], [5]]])
def test_validation_does_not_depend_on_the_batches(
    batches: list[list[int]], validation: ImageSet
) -> None:
    torch.manual_seed(0)
    objective_ = objective(prediction_type="v_prediction")
    network = objective_.model.network.eval()
    expected = objective_.validation_loss(network, validation, [[3, 1], [5, 0, 2, 4]], seed=3)
    found = objective_.validation_loss(network, validation, batches, seed=3)
    assert found == pytest.approx(expected, rel=1e-5)


def test_validation_adds_up_over_processes(
    validation: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective_, batches = objective(), [[0, 1], [2, 3], [4], [5]]
    expected = objective_.validation_loss(zero, validation, batches, seed=3)
    parts = []
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(
            distributed, "sum_over_processes", lambda part: (parts.append(part), part)[1]
        )
        objective_.validation_loss(zero, validation, batches, seed=3)
    loss, count = torch.stack(parts).sum(0).tolist()
    assert count == 24
    assert loss / count == pytest.approx(expected, rel=1e-6)
