"""What a GPU changes of scoring, on a CPU in its place: recordings, threads and lateness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from gaussian import random_diffusion
from recorder import Recorder
from torch import Tensor

from diffusion_ood.methods import pointwise, reconstruction
from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.measure import measure_all
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.methods.score_geometry import ScoreGeometry
from diffusion_ood.methods.scores.mse import MeanSquaredError
from diffusion_ood.model import Diffusion
from diffusion_ood.runtime import transfers
from diffusion_ood.trajectories import engine, evaluator
from diffusion_ood.trajectories.evaluator import Evaluator

GPU = torch.device("cuda")
GENERATOR = torch.Generator().manual_seed(0)
NAMES = [f"{k}.png" for k in range(7)]
BATCH = ImageBatch(torch.rand(7, 1, 8, 8, generator=GENERATOR), NAMES, torch.arange(7) % 3)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What records now, as everything goes as for a GPU."""
    found = Recorder()
    monkeypatch.setattr(evaluator, "recorder_for", lambda device: found)
    for module in (engine, pointwise):
        monkeypatch.setattr(module, "threads_for", lambda device: 3)

    def late(items: Iterable[Any], device: torch.device) -> Iterator[Any]:
        return transfers.later(items, GPU)

    monkeypatch.setattr(reconstruction, "later", late)
    return found


def measured(method: Method, model: Diffusion, mode: str, **settings: Any) -> Tensor:
    one = Evaluator(model, "cpu", compile=mode, max_batch=9, **settings)
    return measure_all([method], BATCH, one)[method.name]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_inference_steps": 6},
        {"num_inference_steps": 6, "sampler": "pndm4"},
        {"budget": 6, "budget_steps": 2, "repeats": 1},
        {"budget": 6, "labels": "true", "guidance": 1.0},
        {"num_inference_steps": 20, "levels": (300,), "labels": "true", "clip_denoised": True},
    ],
)
def test_reconstructions_are_those_of_the_network_as_it_is(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    classes = {"num_classes": 3} if "labels" in settings else {}
    model = random_diffusion(**classes)
    method = Reconstruction(scores=[MeanSquaredError()], **settings)
    expected = measured(method, model, "off")
    recorder: Recorder = request.getfixturevalue("recorder")
    found = measured(method, model, "graph")
    assert recorder.repeated
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "method",
    [
        partial(Denoising, num_levels=5, scores=[MeanSquaredError()]),
        partial(ScoreGeometry, num_levels=2),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_points_are_those_of_the_network_as_it_is(
    method: Any, precision: str, request: pytest.FixtureRequest
) -> None:
    model = random_diffusion()
    one: Method = method()
    expected = measured(one, model, "off", precision=precision)
    recorder: Recorder = request.getfixturevalue("recorder")
    found = measured(one, model, "graph", precision=precision)
    assert recorder.recorded
    tolerance = 1e-4 if precision == "fp32" else 2e-2
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("blocks", [(), ("middle_block",)])
@pytest.mark.parametrize("rows", [1, 8, 20, 31])
def test_any_number_of_rows_is_observed_alike(
    recorder: Recorder, blocks: tuple[str, ...], rows: int
) -> None:
    model = random_diffusion()
    x, t = torch.randn(rows, 1, 8, 8, generator=GENERATOR), torch.arange(rows) * 30
    plain = Evaluator(model, "cpu", compile="off", max_batch=8)
    one = Evaluator(model, "cpu", compile="graph", max_batch=8)
    for _ in range(4):
        eps, statistics = one.observe(x, t, blocks)
        expected, of_blocks = plain.observe(x, t, blocks)
        torch.testing.assert_close(eps, expected, rtol=1e-4, atol=1e-5)
        for name in blocks:
            torch.testing.assert_close(statistics[name], of_blocks[name], rtol=1e-4, atol=1e-5)
    assert recorder.repeated
