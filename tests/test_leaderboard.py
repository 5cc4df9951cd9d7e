"""The leaderboard: its rows are there, its page says what was measured, its ceiling learns."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from diffusion_ood.registries import FAULTS, METHODS, PUBLISHED

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import boards

    return boards


def test_every_published_detector_and_every_fault_is_on_the_board(boards: ModuleType) -> None:
    assert set(boards.DETECTORS) == set(PUBLISHED)
    assert set(boards.FAULTS) == set(FAULTS) - {
        "lesions",
        "missing_slab",
        "flip_lr",
    }  # for maps, volumes
    assert {method for method, _ in boards.DETECTORS.values()} <= set(boards.METHODS)
    assert set(boards.METHODS) == set(METHODS) - {"reconstruction", "diffood", "autoencoder"}


def test_the_page_shows_the_measured_numbers(boards: ModuleType) -> None:
    import leaderboard_page

    measured = json.loads(leaderboard_page.RESULTS.read_text(encoding="utf-8"))["boards"]
    text = leaderboard_page.PAGE.read_text(encoding="utf-8")
    between = text.split(leaderboard_page.BEGIN)[1].split(leaderboard_page.END)[0]
    assert between.strip() == leaderboard_page.tables(measured).strip()
    assert measured.keys() == {board.name for board in boards.BOARDS}


def test_a_ceiling_tells_apart_what_it_was_shown(boards: ModuleType) -> None:
    from ceiling import ceiling

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(240, 1, 12, 12, generator=generator)
    bright = images.clone()
    bright[:, :, :4] = 1  # a white band on top, which only the network can be shown
    inside, outside = ceiling(images[:80], bright[80:160], images[160:200], bright[200:])
    assert inside.shape == outside.shape == (40,)
    assert np.mean(outside[:, None] > inside) > 0.95
