"""The averaged weights against the formula, worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffusion_ood.training.ema import WeightAverage


@pytest.fixture
def network() -> nn.Linear:
    """One weight, 1.0."""
    network = nn.Linear(1, 1, bias=False)
    set_weight(network, 1.0)
    return network


def set_weight(network: nn.Linear, value: float) -> None:
    with torch.no_grad():
        network.weight.fill_(value)


def test_the_first_average_is_a_copy_of_the_weights(network: nn.Linear) -> None:
    average = WeightAverage(network, 0.9)
    set_weight(network, 5.0)
    assert average.weights["weight"].item() == 1.0


def test_the_decay_warms_up_from_a_tenth(network: nn.Linear) -> None:
    average = WeightAverage(network, 0.999)
    set_weight(network, 2.0)
    average.update(network, 0)  # d = 1/10
    assert average.weights["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    set_weight(network, 3.0)
    average.update(network, 1)  # d = 2/11
    assert average.weights["weight"].item() == pytest.approx(2 / 11 * 1.9 + 9 / 11 * 3)


@pytest.mark.parametrize(("decay", "step", "used"), [(0.999, 10**6, 0.999), (0.05, 0, 0.05)])
def test_the_decay_is_never_above_the_one_asked_for(
    decay: float, step: int, used: float, network: nn.Linear
) -> None:
    average = WeightAverage(network, decay)
    set_weight(network, 2.0)
    average.update(network, step)
    assert average.weights["weight"].item() == pytest.approx(used + (1 - used) * 2, rel=1e-6)


def test_without_decay_the_average_is_the_weights(network: nn.Linear) -> None:
    average = WeightAverage(network, 0.0)
    set_weight(network, 7.0)
    average.update(network, 100)
    assert average.weights["weight"].item() == 7.0
    assert average.weights["weight"].data_ptr() != network.weight.data_ptr()
