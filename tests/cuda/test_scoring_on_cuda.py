"""Scoring on a GPU: CUDA graphs, and loops that do not wait. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gaussian import random_diffusion
from torch import Tensor

from diffusion_ood.methods.base import ImageBatch, Method
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.measure import measure_all
from diffusion_ood.methods.reconstruction import Reconstruction
from diffusion_ood.methods.scores.mse import MeanSquaredError
from diffusion_ood.model import Diffusion
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.runtime.device import best_rows, pick_device
from diffusion_ood.trajectories.engine import Trajectory
from diffusion_ood.trajectories.evaluator import Evaluator

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

ROUNDING = {"fp32": 1e-6, "bf16": 2e-2}
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(70, 1, 16, 16, generator=GENERATOR)
T = torch.arange(70) * 14


def model(**options: Any) -> Diffusion:
    return random_diffusion((1, 16, 16), **options)


def assert_near(found: Tensor, expected: Tensor, rounding: float) -> None:
    assert (found - expected).abs().max() <= rounding * expected.abs().max()


@pytest.fixture
def nothing_waits() -> Iterator[None]:
    """Afterwards waiting is no error again, whatever the test has set."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("blocks", [(), ("middle_block",)])
def test_a_graph_says_what_the_network_says(precision: str, blocks: tuple[str, ...]) -> None:
    """Of calls of 32, 32 and 6 rows, the last of which is recorded for itself; then of 20."""
    found = {}
    for mode in ("off", "graph"):
        one = Evaluator(model(), "cuda", compile=mode, precision=precision, max_batch=32)
        for rows in (70, 70, 70, 20, 70):
            eps, statistics = one.observe(X[:rows], T[:rows], blocks)
            found[mode, rows] = [eps, *statistics.values()]
        assert one.decision() is None  # no recording has failed
    for rows in (20, 70):
        for graph, plain in zip(found["graph", rows], found["off", rows], strict=True):
            padded = 10 if rows == 20 else 1  # perhaps by other kernels
            assert_near(graph, plain, padded * ROUNDING[precision])


@pytest.mark.parametrize("mode", ["graph", "on"])
def test_labels_and_guidance_are_recorded(mode: str) -> None:
    network = model(num_classes=3)
    found = {}
    for how in ("off", mode):
        one = Evaluator(network, "cuda", compile=how, max_batch=16)
        denoiser = one.denoiser(guidance=1.5, clip=True)
        with torch.inference_mode():
            for rows in (8, 8, 8, 8, 5):
                x = X[:rows].to(one.device)
                found[how, rows] = denoiser(x, T[:rows], torch.arange(rows) % 3)
        assert one.decision() is None
    rounding = 1e-5 if mode == "graph" else 1e-4
    for rows in (5, 8):
        assert_near(found[mode, rows], found["off", rows], rounding)


def test_auto_records_what_a_long_work_repays() -> None:
    one = Evaluator(model(), "cuda", max_batch=32)
    one.expect(30_000)
    plain = Evaluator(model(), "cuda", compile="off", max_batch=32)
    for _ in range(4):
        assert_near(one.eps(X, T), plain.eps(X, T), ROUNDING["fp32"])
    said = one.decision()
    assert said is not None
    assert "CUDA graph" in said
    assert "no CUDA graph" not in said


@pytest.mark.parametrize(
    ("sampler", "mode"),
    [("ddim", "graph"), ("plms", "graph"), ("dpmpp_2m", "graph"), ("pndm4", "off")],
)
@pytest.mark.usefixtures("nothing_waits")
def test_a_step_waits_for_nothing(sampler: str, mode: str) -> None:
    """As soon as calls are recorded; trajectories begin and end in these steps."""
    one = Evaluator(model(num_classes=3), "cuda", compile=mode, max_batch=16)
    times = tuple(range(600, 0, -50))
    work = [Trajectory(k, times[k % 3 :], X[k].clone, k % 3) for k in range(40)]
    steps = one.run(iter(work), SAMPLERS[sampler], guidance=1.0, clip=True)
    for _ in range(8):
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    ended = []
    for step in steps:
        rows, _ = step.ends()
        ended += rows
        if len(step.rows) < one.width(1.0):  # a call of few rows may be recorded again
            break
    torch.cuda.set_sync_debug_mode("default")
    assert len(ended) > 10
    assert one.decision() is None


@pytest.mark.parametrize(
    "method",
    [
        Reconstruction(scores=[MeanSquaredError()], num_inference_steps=10),
        Denoising(scores=[MeanSquaredError()], num_levels=5),
    ],
)
def test_what_is_measured_is_that_of_the_cpu(method: Method) -> None:
    images = torch.rand(9, 1, 16, 16, generator=GENERATOR)
    names = [f"{k}.png" for k in range(9)]
    found = []
    for name, mode in (("cpu", "off"), ("cuda", "graph")):
        one = Evaluator(model(), name, compile=mode, max_batch=16)
        batch = ImageBatch(images.to(one.device), names)
        found.append(measure_all([method], batch, one)[method.name])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_a_small_network_gets_more_rows_than_a_large_one() -> None:
    device = pick_device("cuda")
    tiny, volumes = (best_rows(values, device, "bf16") for values in (32 * 28**2, 128 * 128**3))
    assert tiny > volumes
