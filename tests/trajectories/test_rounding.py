"""Which steps are computed exactly beside bf16, and that a reconstruction is made of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffusion_ood.model import Diffusion
from diffusion_ood.diffusion.schedule import build_schedule
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.grid import BudgetGrid, Grid, TimeGrid
from diffusion_ood.trajectories.reconstruct import reconstruct
from diffusion_ood.trajectories.rounding import exact_below, exact_calls

SCHEDULE = build_schedule("scaled_linear_beta", 0.0015, 0.0195)
PLMS = SAMPLERS["plms"]


def test_it_is_the_end_of_the_way_from_where_the_image_leaves_no_trace() -> None:
    below = exact_below(SCHEDULE, PLMS, 999)
    assert SCHEDULE.alphas_cumprod(torch.tensor([below - 1, below])).gt(0.8).tolist() == [1, 0]
    found = {start: exact_below(SCHEDULE, PLMS, start) for start in (100, 850, 890, 970)}
    assert found == {100: 0, 850: 0, 890: below, 970: below}


@pytest.mark.parametrize(
    ("grid", "sampler", "number"),
    [
        (TimeGrid(1000, 100, 4), "plms", 33),  # 110, 100, … 10 from 890, 930 and 970
        (TimeGrid(1000, 100, 4), "ddim", 0),
        (TimeGrid(1000, 100, 16), "plms", 11),
        (BudgetGrid(SCHEDULE, 10), "dpmpp_2m", 0),
    ],
)
def test_it_is_few_calls(grid: Grid, sampler: str, number: int) -> None:
    assert exact_calls(grid, SCHEDULE, SAMPLERS[sampler]) == number


def test_a_reconstruction_asks_for_just_these() -> None:
    model = Diffusion(
        DiffusionOptions(
            model_type="tiny", beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195
        ),
        (1, 4, 4),
    )
    asked: dict[str, list[int]] = {"quick": [], "exact": []}

    def denoiser(x: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        asked["quick"] += t.tolist()
        return x

    def exact(x: Tensor, t: Tensor, labels: Tensor | None = None, /) -> Tensor:
        asked["exact"] += t.tolist()
        return x

    grid, images = TimeGrid(1000, 100, 16), torch.zeros(2, 1, 4, 4)
    found = list(reconstruct(model, denoiser, PLMS, grid, images, ["a", "b"], 0, 8, exact=exact))
    assert sum(len(image) for image, _, _ in found) == 2 * 7
    assert sorted(asked["exact"]) == [t for t in range(10, 111, 10) for _ in range(2)]
    assert len(asked["quick"]) + len(asked["exact"]) == 2 * 343
