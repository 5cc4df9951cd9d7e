"""The evaluator: what it counts, that rows are independent, and trajectories in closed form."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import pytest
import torch
from gaussian import gaussian_diffusion, random_diffusion
from torch import Tensor

from diffusion_ood.diffusion.schedule import CLEAN, NoiseSchedule
from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.model import Diffusion
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.engine import Step, Trajectory
from diffusion_ood.trajectories.evaluator import Evaluator

X = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
T = torch.tensor([999, 0, 500, 20, 300, 700, 1])


def evaluator(diffusion: Diffusion | None = None, max_batch: int | None = 3) -> Evaluator:
    return Evaluator(diffusion or random_diffusion(), "cpu", compile="off", max_batch=max_batch)


def steps_of(rows: int, found: list[Step]) -> dict[int, list[tuple[int, int, Tensor, Tensor]]]:
    """Of each trajectory, every step's (t, s, x_t, ε̂) in turn."""
    kept = defaultdict(list)
    for step in found:
        values = (step.t.tolist(), step.s.tolist(), step.x_t, step.eps)
        for row, *one in zip(step.rows, *values, strict=True):
            kept[row].append(tuple(one))
    assert kept.keys() == set(range(rows))
    return kept


@pytest.mark.parametrize("max_batch", [1, 3, 7, 100])
def test_rows_are_counted_and_independent(max_batch: int) -> None:
    one = evaluator(max_batch=max_batch)
    found = one.eps(X, T)
    assert one.calls == 7
    expected = torch.cat([one.eps(x[None], t[None]) for x, t in zip(X, T, strict=True)])
    assert one.calls == 14
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert one.eps(X[:0], T[:0]).shape == (0, 1, 8, 8)
    assert one.calls == 14


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"precision": "fp8"}])
def test_what_no_evaluator_can_do_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(*wrong.values())):
        Evaluator(random_diffusion(), "cpu", compile="off", **wrong)


def test_no_network_call_has_more_rows_than_allowed() -> None:
    diffusion = gaussian_diffusion()
    evaluator(diffusion).eps(X, T)
    assert diffusion.network.sizes == [3, 3, 1]


def test_labels_go_with_their_rows() -> None:
    diffusion = gaussian_diffusion(num_classes=2)
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    one = evaluator(diffusion)
    found = one.eps(X, T, labels)
    for k in range(7):
        alone = one.eps(X[k, None], T[k, None], labels[k, None])
        torch.testing.assert_close(found[k], alone[0])
    torch.testing.assert_close(one.eps(X, T), one.eps(X, T, torch.full((7,), 2)))


@pytest.mark.parametrize("settings", [
    {"sampler": "ddim"},
    {"sampler": "plms", "repeats": 2},
    {"sampler": "pndm4"},
    {"sampler": "pndm2", "levels": (120, 240)},
    {"budget": 6},
    {"budget": 12, "budget_steps": 2, "repeats": 2},
    {"sampler": "ddim", "labels": "true", "guidance": 2.0},
    {"sampler": "pndm4", "labels": "true", "guidance": 2.0, "levels": (360,), "repeats": 2},
])  # fmt: skip
@pytest.mark.parametrize("max_batch", [4, 256])
def test_a_method_knows_its_network_calls(settings: dict[str, object], max_batch: int) -> None:
    classes = 3 if "labels" in settings else 0
    diffusion = gaussian_diffusion(num_classes=classes)
    method = Reconstruction(scores=["mse"], **{"num_inference_steps": 10, **settings})
    one = evaluator(diffusion, max_batch)
    batch = ImageBatch(X[:3], list("abc"), torch.tensor([0, 2, 1]) if classes else None)
    rows = list(method.measure(batch, one))
    assert sorted(image for part in rows for image in part.images) == [0, 1, 2]
    assert one.calls == 3 * method.calls(diffusion) == sum(diffusion.network.sizes)
    assert max(diffusion.network.sizes) <= max_batch


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("max_batch", [2, 64])
def test_every_step_is_yielded_once_with_its_own_evaluation(name: str, max_batch: int) -> None:
    times = [(700, 300, 20, CLEAN), (999, 500, 0), (30, 0), (900, CLEAN)]
    if SAMPLERS[name].encodes:
        times += [(CLEAN, 100, 200, 400, 800), (0, 50, 999)]
    one = evaluator(max_batch=max_batch)
    work = [Trajectory(row, passed, X[row].clone) for row, passed in enumerate(times)]
    found = list(one.run(work, SAMPLERS[name]))
    for row, steps in steps_of(len(times), found).items():
        assert [(t, s) for t, s, _, _ in steps] == list(itertools.pairwise(times[row]))
        assert torch.equal(steps[0][2], X[row])
        for t, _, x_t, eps in steps:
            expected = one.eps(x_t[None], torch.tensor([max(t, 0)]))[0]
            torch.testing.assert_close(eps, expected, rtol=1e-3, atol=1e-4)
    ended = [row for step in found for row in step.ends()[0]]
    assert sorted(ended) == list(range(len(times)))


def test_the_next_step_begins_where_the_last_one_ended() -> None:
    steps = list(evaluator().run([Trajectory(0, (400, 200, 0), X[0].clone)], SAMPLERS["ddim"]))
    assert [step.ended.tolist() for step in steps] == [[False], [True]]
    assert torch.equal(steps[0].x_s, steps[1].x_t)
    assert steps[0].ends()[0] == []
    assert torch.equal(steps[1].ends()[1], steps[1].x_s)


def factor(schedule: NoiseSchedule, times: tuple[int, ...], variance: float) -> float:
    """What DDIM multiplies x by on its way, for images from N(0, v·I).

    Each step t → u has the factor (√(ᾱ_t ᾱ_u)·v + √((1−ᾱ_t)·(1−ᾱ_u))) / (ᾱ_t·v + 1 − ᾱ_t).
    """
    product = 1.0
    for t, u in itertools.pairwise(times):
        a, b = schedule.alphas_cumprod(torch.tensor([t, u])).tolist()
        product *= ((a * b) ** 0.5 * variance + ((1 - a) * (1 - b)) ** 0.5) / (a * variance + 1 - a)
    return product


@pytest.mark.parametrize("variance", [0.04, 1.0, 2.5])
def test_ddim_up_and_down_is_the_product_of_its_linear_factors(variance: float) -> None:
    one = evaluator(gaussian_diffusion(0.0, variance))
    up = tuple(range(0, 1000, 50))
    whole = (*up, *up[-2::-1])
    for times in (up, up[::-1], whole):
        *_, last = one.run([Trajectory(0, times, X[0].clone)], SAMPLERS["ddim"])
        expected = factor(one.diffusion.schedule, times, variance) * X[0]
        torch.testing.assert_close(last.x_s[0], expected, rtol=1e-5, atol=1e-6)


def test_from_the_clean_image_the_network_is_asked_at_its_first_time() -> None:
    one = evaluator(gaussian_diffusion(0.0, 0.04))
    (step,) = one.run([Trajectory(0, (CLEAN, 400), X[0].clone)], SAMPLERS["ddim"])
    a, b = one.diffusion.schedule.alphas_cumprod(torch.tensor([0, 400])).tolist()
    eps = (1 - a) ** 0.5 / (a * 0.04 + 1 - a) * X[0]
    torch.testing.assert_close(step.eps[0], eps)
    torch.testing.assert_close(step.x_s[0], b**0.5 * X[0] + (1 - b) ** 0.5 * eps)


@pytest.mark.parametrize("data_range", ["01", "pm1"])
def test_clipped_predictions_stay_in_the_range_of_images(data_range: str) -> None:
    low, high = (0, 1) if data_range == "01" else (-1, 1)
    one = evaluator(gaussian_diffusion(0.5, 4.0, data_range=data_range))
    work = [Trajectory(row, (600, CLEAN), lambda row=row: 9 * X[row] - 4) for row in range(7)]
    free, clipped = (
        torch.cat([step.x_s for step in one.run(work, SAMPLERS["ddim"], clip=clip)])
        for clip in (False, True)
    )
    assert ((free < low) | (free > high)).any()
    torch.testing.assert_close(clipped, free.clamp(low, high), rtol=1e-4, atol=1e-5)


def test_guided_trajectories_are_those_of_the_guided_denoiser() -> None:
    """Classes move the mean of the Gaussian, and guidance moves it on past the null class."""
    diffusion = gaussian_diffusion(0.0, 0.04, num_classes=2)
    one = evaluator(diffusion)
    (step,) = one.run([Trajectory(0, (500, CLEAN), X[0].clone, 1)], SAMPLERS["ddim"], guidance=2.0)
    assert diffusion.network.sizes == [2]
    assert one.width(2.0) == 1
    label, null = (one.eps(X[:1], torch.tensor([500]), torch.tensor([k])) for k in (1, 2))
    torch.testing.assert_close(step.eps, 3 * label - 2 * null)


@pytest.mark.parametrize("max_batch", [2, 64])
def test_features_are_a_blocks_activation(max_batch: int) -> None:
    one = evaluator(max_batch=max_batch)
    network, kept = one.diffusion.network, []
    found = one.features(X, T, ["middle_block", "conv_in"])
    assert one.calls == 7
    hook = network.middle_block.register_forward_hook(lambda *given: kept.append(given[2]))
    with torch.inference_mode():
        network(X, T)
    hook.remove()
    torch.testing.assert_close(found["middle_block"], kept[0], rtol=1e-4, atol=1e-4)
    assert found["middle_block"].shape == (7, 64, 2, 2)
    assert found["conv_in"].shape == (7, 32, 8, 8)
    one.eps(X, T)
    assert len(kept) == 1


def test_an_unknown_block_leaves_no_hook_behind() -> None:
    one = evaluator()
    with pytest.raises(AttributeError):
        one.features(X, T, ["middle_block", "nothing"])
    assert not one.diffusion.network.middle_block._forward_hooks


def test_gradients_flow_and_agree_with_central_differences() -> None:
    one, h = evaluator(), 3e-3
    denoiser = one.differentiable()
    direction = torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    x = X.clone().requires_grad_()
    slope = (torch.autograd.grad(denoiser(x, T).square().sum(), x)[0] * direction).sum((1, 2, 3))
    with torch.no_grad():
        ends = [denoiser(X + side * h * direction, T).square() for side in (1, -1)]
    expected = (ends[0] - ends[1]).sum((1, 2, 3)) / (2 * h)
    torch.testing.assert_close(slope, expected, rtol=2e-2, atol=1e-3)
    assert one.calls == 21


def test_the_jacobian_of_a_gaussian_is_known() -> None:
    one = evaluator(gaussian_diffusion(0.5, 0.04))
    a = one.diffusion.schedule.alphas_cumprod(T)
    x = X.clone().requires_grad_()
    v = torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(one.differentiable()(x, T), x, v)[0]
    scale = (1 - a).sqrt() / (a * 0.04 + 1 - a)
    torch.testing.assert_close(found, scale.float().reshape(-1, 1, 1, 1) * v)


def test_what_a_machine_has_not_is_refused() -> None:
    with pytest.raises(UserError, match="`device`"):
        Evaluator(gaussian_diffusion(), "nothing")


@pytest.mark.parametrize("times", [T[:1], T[:6], torch.cat([T, T])])
def test_times_and_labels_are_one_a_row(times: Tensor) -> None:
    one = evaluator(gaussian_diffusion(num_classes=2), max_batch=1)
    with pytest.raises(ValueError, match="times"):
        one.eps(X, times)
    with pytest.raises(ValueError, match="labels"):
        one.eps(X, T, times % 2)


@pytest.mark.parametrize("time", [-2, 1000])
def test_times_that_are_none_are_refused(time: int) -> None:
    with pytest.raises(ValueError, match="times"):
        evaluator().eps(X, torch.full((7,), time))
    with pytest.raises(ValueError, match="times"):
        evaluator().features(X, torch.full((7,), time), ["middle_block"])


def test_gradients_too_ask_about_the_clean_image_at_the_first_time() -> None:
    one, clean = evaluator(), torch.full((7,), CLEAN)
    torch.testing.assert_close(one.differentiable()(X, clean), one.eps(X, torch.zeros_like(clean)))


def test_a_block_that_is_named_twice_is_kept_once() -> None:
    assert len(evaluator().features(X, T, ["middle_block"] * 2)["middle_block"]) == 7


@pytest.mark.parametrize("rows", [0, -3])
def test_no_rows_in_a_call_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="max_batch"):
        evaluator(max_batch=rows)
