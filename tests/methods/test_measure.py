"""measure(): the table of an array of images, whatever the batches they come in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gaussian import gaussian_diffusion, random_diffusion
from pandas.testing import assert_frame_equal

from diffusion_ood.calibration.base import features
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch, Method, Rows
from diffusion_ood.methods.measure import content_key, finished, measure
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.methods.scores.mse import MeanSquaredError
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.evaluator import Evaluator
from diffusion_ood.trajectories.noise import image_noise

IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
KEYS = list("abcdefg")


def evaluator(diffusion: Diffusion, max_batch: int = 5) -> Evaluator:
    return Evaluator(diffusion, "cpu", compile="off", max_batch=max_batch)


def method(**settings: object) -> Reconstruction:
    return Reconstruction(**{"num_inference_steps": 4, "scores": ["mse"], **settings})


def assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """But for the rounding of sums in batches of different sizes."""
    assert_frame_equal(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("batch_size", "max_batch"), [(1, 1), (2, 3), (7, 64), (100, 4)])
@pytest.mark.parametrize("settings", [{}, {"repeats": 2, "budget": 6}], ids=["grid", "budget"])
def test_numbers_do_not_depend_on_batches(
    settings: dict[str, int], batch_size: int, max_batch: int
) -> None:
    diffusion = random_diffusion()
    expected = measure(method(**settings), IMAGES, evaluator(diffusion), batch_size=3)
    found = measure(
        method(**settings), IMAGES, evaluator(diffusion, max_batch), batch_size=batch_size
    )
    assert_equal(found, expected)


def test_numbers_do_not_depend_on_the_order_of_images() -> None:
    one, order = evaluator(random_diffusion()), torch.tensor([3, 0, 6, 5, 1, 2, 4])
    expected = measure(method(), IMAGES, one).set_index(["filename", "t"])
    found = measure(method(), IMAGES[order], one).set_index(["filename", "t"])
    assert list(found.index) != list(expected.index)
    assert_equal(found.loc[expected.index], expected)


def test_the_table_has_a_row_a_draw_image_by_image() -> None:
    one = evaluator(gaussian_diffusion())
    found = measure(method(), IMAGES, one, keys=KEYS)
    assert list(found) == ["filename", "t", "mse"]
    assert found["filename"].tolist() == [key for key in KEYS for _ in range(4)]
    assert found["t"].tolist() == [250, 500, 750, 999] * 7
    assert found["mse"].notna().all()
    assert one.calls == 7 * method().calls(one.diffusion)


def test_repeats_have_a_column() -> None:
    found = measure(method(repeats=2), IMAGES[:2], evaluator(gaussian_diffusion()), keys="xy")
    assert list(found) == ["filename", "t", "repeat", "mse"]
    assert found["t"].tolist() == [250, 250, 500, 500, 750, 750, 999, 999] * 2
    assert found["repeat"].tolist() == [0, 1] * 8
    first = measure(method(), IMAGES[:2], evaluator(gaussian_diffusion()), keys="xy")
    again = found[found["repeat"] == 0].drop(columns="repeat").reset_index(drop=True)
    assert_equal(again, first)


def test_equal_images_have_equal_numbers_and_a_score_each() -> None:
    images = torch.stack([IMAGES[0], IMAGES[1], IMAGES[0], IMAGES[0]])
    found = features(measure(method(), images, evaluator(random_diffusion())))
    key = content_key(IMAGES[0])
    assert list(found.index) == [key, content_key(IMAGES[1]), f"{key}-2", f"{key}-3"]
    for again in (2, 3):
        np.testing.assert_allclose(found.iloc[again], found.iloc[0], rtol=1e-4)
        assert found.iloc[again].tolist() != found.iloc[1].tolist()


@pytest.mark.parametrize(
    "images", [(IMAGES * 255).byte(), IMAGES * 1.01, IMAGES - 0.5, IMAGES * torch.nan]
)
def test_values_outside_the_range_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="outside"):
        measure(method(), images, evaluator(gaussian_diffusion()))


@pytest.mark.parametrize(
    "arguments",
    [{"keys": "abc"}, {"keys": "abcdefgh"}, {"keys": "aabcdef"}, {"classes": [0] * 3}]
    + [{"batch_size": size} for size in (0, -1)],
)
def test_what_is_not_one_an_image_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="found"):
        measure(method(), IMAGES, evaluator(gaussian_diffusion()), **arguments)


def test_a_content_key_is_of_shape_and_pixels() -> None:
    keys = {content_key(image) for image in (*IMAGES, IMAGES[0].reshape(1, 4, 16), IMAGES[0] + 1)}
    assert len(keys) == 9
    channels_last = IMAGES.expand(-1, 3, -1, -1).to(memory_format=torch.channels_last)
    assert content_key(channels_last[0]) == content_key(channels_last[0].contiguous())
    assert content_key(IMAGES[0].double()) == content_key(IMAGES[0])


def test_arrays_lists_and_tensors_are_alike() -> None:
    one = evaluator(gaussian_diffusion())
    expected = measure(method(), IMAGES, one)
    array = IMAGES.numpy()
    for images in (array, array.astype(np.float64), array.tolist()):
        assert_equal(measure(method(), images, one), expected)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 3, 8, 8), (2, 1, 8, 4), (1, 8, 8)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        measure(method(), np.zeros(shape), evaluator(gaussian_diffusion()))


def test_labels_are_one_of_three() -> None:
    with pytest.raises(UserError, match="`labels`"):
        method(labels="Pred")


def test_labels_that_a_model_does_not_know_are_refused() -> None:
    with pytest.raises(UserError, match="`labels`"):
        measure(method(labels="true"), IMAGES, evaluator(gaussian_diffusion()), classes=[0] * 7)


def test_true_classes_go_with_their_images() -> None:
    diffusion = gaussian_diffusion(mean=0.0, num_classes=3)
    diffusion.classes = ("a", "b", "c")
    one, classes = evaluator(diffusion), [0, 2, 1, 0, 1, 2, 0]
    told = method(labels="true", budget=4)
    found = measure(told, IMAGES, one, keys=KEYS, classes=classes, batch_size=2)
    for k, own in enumerate(classes):
        alone = [measure(told, IMAGES[k, None], one, keys=KEYS[k], classes=[c]) for c in range(3)]
        rows = found[found["filename"] == KEYS[k]].reset_index(drop=True)
        assert_equal(rows, alone[own])
        for other in {0, 1, 2} - {own}:
            assert (rows["mse"] - alone[other]["mse"]).abs().max() > 1e-3


class ScoreNorm(Method):
    """The mean of ε̂² at two levels."""

    name = "norm"
    levels = (100, 600)

    @property
    def columns(self) -> tuple[str, ...]:
        """One of ε̂², and one of |ε̂|."""
        return "eps_sq", "eps_abs"

    def draws(self, diffusion: Diffusion) -> Sequence[tuple[int, int]]:
        """A row a level."""
        return [(t, 0) for t in self.levels]

    def calls(self, diffusion: Diffusion) -> int:
        """One a level."""
        return len(self.levels)

    def measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        """The last image first."""
        for image in reversed(range(len(batch))):
            x_t = self.noisy(batch, image, evaluator.diffusion)
            eps = evaluator.eps(x_t, torch.tensor(self.levels))
            columns = [eps.square(), eps.abs()]
            values = torch.stack([column.flatten(1).mean(1) for column in columns], 1)
            yield Rows([image], values[None].float().cpu())

    def noisy(self, batch: ImageBatch, image: int, diffusion: Diffusion) -> torch.Tensor:
        """An image at both levels."""
        key, x_0 = batch.keys[image], diffusion.codec.encode(batch.images[image])
        eps = torch.stack([image_noise(diffusion.image_shape, 0, key, t) for t in self.levels])
        times = torch.tensor(self.levels)
        return diffusion.schedule.add_noise(x_0.expand_as(eps), eps, times)


def test_a_method_of_ones_own_is_measured() -> None:
    """ε̂ of N(m, v·I) is √(1−ᾱ)·(x_t − √ᾱ·m) / (ᾱ·v + 1 − ᾱ)."""
    one = evaluator(gaussian_diffusion(mean=0.5, variance=0.04))
    found = measure(ScoreNorm(), IMAGES, one, keys=KEYS, batch_size=3)
    assert list(found) == ["filename", "t", "eps_sq", "eps_abs"]
    assert one.calls == 7 * 2
    alpha_bar = one.diffusion.schedule.alphas_cumprod(torch.tensor(ScoreNorm.levels))
    for k, key in enumerate(KEYS):
        for a, t in zip(alpha_bar.tolist(), ScoreNorm.levels, strict=True):
            x_t = a**0.5 * IMAGES[k] + (1 - a) ** 0.5 * image_noise((1, 8, 8), 0, key, t)
            eps = (1 - a) ** 0.5 * (x_t - a**0.5 * 0.5) / (a * 0.04 + 1 - a)
            row = found[(found["filename"] == key) & (found["t"] == t)].iloc[0]
            assert row["eps_sq"] == pytest.approx(eps.square().mean().item(), rel=1e-5)
            assert row["eps_abs"] == pytest.approx(eps.abs().mean().item(), rel=1e-5)


class Fixed(ScoreNorm):
    """Yields the rows that it is given."""

    def __init__(self, *found: list[int], num_draws: int = 2) -> None:
        self.found, self.num_draws = found, num_draws

    def measure(self, batch: ImageBatch, evaluator: Evaluator) -> Iterator[Rows]:
        """Ones."""
        for images in self.found:
            yield Rows(images, torch.ones(len(images), self.num_draws, 2))


@pytest.mark.parametrize("found", [([0, 0],), ([0], [0]), ([1],), ([0, 1, 2],), ()])
def test_a_method_measures_every_image_once(found: tuple[list[int], ...]) -> None:
    with pytest.raises(ValueError, match="image"):
        measure(Fixed(*found), IMAGES[:2], evaluator(gaussian_diffusion()))
    with pytest.raises(ValueError, match="image"):
        list(finished(Fixed(*found).measure(ImageBatch(IMAGES[:2], "ab"), None), 2))


def test_a_method_measures_every_draw_and_column() -> None:
    one = evaluator(gaussian_diffusion())
    assert len(measure(Fixed([1, 0]), IMAGES[:2], one)) == 4
    with pytest.raises(ValueError, match="values"):
        measure(Fixed([1, 0], num_draws=1), IMAGES[:2], one)


class TwiceMSE(MeanSquaredError):
    """A score under the name of another."""


class OfTimes(ScoreNorm):
    """A method with a column that every table has."""

    @property
    def columns(self) -> tuple[str, ...]:
        """One of the table's own."""
        return "t", "eps_abs"


def test_columns_that_collide_are_refused() -> None:
    for colliding in (method(scores=["mse", TwiceMSE()]), OfTimes()):
        with pytest.raises(ValueError, match="columns"):
            measure(colliding, IMAGES[:2], evaluator(gaussian_diffusion()))


def test_no_images_are_an_empty_table() -> None:
    assert len(measure(method(), IMAGES[:0], evaluator(gaussian_diffusion()))) == 0
