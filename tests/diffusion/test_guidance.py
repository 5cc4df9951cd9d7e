"""Guidance against its formula, with a network whose answers are known."""

import pytest
import torch

from diffusion_ood.diffusion.denoiser import GuidedDenoiser, NetworkDenoiser
from diffusion_ood.diffusion.schedule import build_schedule
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories

SCHEDULE = build_schedule("linear_beta", 1e-4, 0.02)
NULL = 3
CPU = torch.device("cpu")


class Network:
    """Answers tanh(x)·(1 + label) + t/1000, and remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, class_labels):
        """A stand-in for the U-Net."""
        self.calls.append(class_labels.tolist())
        row = (-1, *[1] * (x.ndim - 1))
        return x.tanh() * (1 + class_labels.reshape(row)) + t.reshape(row) / 1000


def denoisers(beta):
    network = Network()
    conditional = NetworkDenoiser(network, SCHEDULE, "epsilon", NULL)
    return network, conditional, GuidedDenoiser(conditional, beta, NULL)


X = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
T, LABELS = torch.tensor([900, 10, 500, 0]), torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_guidance_is_its_formula_in_one_network_call(beta):
    network, conditional, guided = denoisers(beta)
    found = guided(X, T, LABELS)
    assert network.calls == [[0, 2, 1, 2, NULL, NULL, NULL, NULL]]
    expected = (1 + beta) * conditional(X, T, LABELS) - beta * conditional(X, T)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (found - conditional(X, T, LABELS)).abs().min() > 1e-4


def test_the_correction_grows_in_proportion_to_beta():
    zero, one, three = (denoisers(beta)[2](X, T, LABELS) for beta in (0.0, 1.0, 3.0))
    torch.testing.assert_close(three - zero, 3 * (one - zero), rtol=1e-12, atol=1e-12)


def test_guidance_of_zero_is_the_conditional_model_at_its_cost():
    network, conditional, guided = denoisers(0.0)
    found = guided(X, T, LABELS)
    assert network.calls == [LABELS.tolist()]
    assert torch.equal(found, conditional(X, T, LABELS))


def test_without_labels_a_network_with_classes_is_told_the_null_label():
    network, conditional, guided = denoisers(2.0)
    assert torch.equal(guided(X, T), conditional(X, T, torch.full((4,), NULL)))
    assert network.calls[0] == [NULL] * 4


def test_a_network_without_classes_is_asked_without():
    plain = NetworkDenoiser(lambda x, t: x * t.reshape(-1, 1, 1, 1), SCHEDULE, "epsilon")
    assert torch.equal(plain(X, T), X * T.reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("max_batch", [1, 3, 16])
def test_labels_stay_with_their_trajectories(name, max_batch):
    """Also in the extra calls for the young rows of a batch."""
    times = [(240, 200, 160, 120, 80, -1), (500, 300, 100), (30, 20, 10, -1), (900, -1)]
    work = [
        Trajectory(row, times[row], lambda row=row: X[row], int(LABELS[row])) for row in range(4)
    ]

    def ends(trajectories, batch):
        _, _, guided = denoisers(2.0)
        found = {}
        for step in run_trajectories(guided, SCHEDULE, SAMPLERS[name], trajectories, CPU, batch):
            found |= dict(zip(*step.ends(), strict=True))
        return found

    together = ends(work, max_batch)
    for trajectory in work:
        alone = ends([trajectory], 1)[trajectory.row]
        torch.testing.assert_close(together[trajectory.row], alone, rtol=1e-12, atol=1e-12)
