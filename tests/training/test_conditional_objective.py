"""Labels, antithetic times, clipping and the range of the data in training."""

import pytest
import torch
from torch import nn

from diffusion_ood.model import Diffusion
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer

ALL = slice(None)


class Recorder:
    """Answers zero, and keeps the times and labels that it was asked with."""

    def __init__(self):
        self.times, self.labels = [], []

    def __call__(self, x_t, t, class_labels=None):
        """A stand-in for the U-Net."""
        self.times += t.tolist()
        self.labels += [] if class_labels is None else class_labels.tolist()
        return torch.zeros_like(x_t)


def objective(num_classes=3, **settings):
    options = DiffusionOptions(model_type="tiny", num_classes=num_classes)
    return DiffusionObjective(Diffusion(options, (1, 8, 8)), 1000, **settings)


def asked(objective_, n, labels=None, seed=0, shard=ALL):
    recorder = Recorder()
    images = torch.zeros(n, 1, 8, 8)[shard]
    known = None if labels is None else labels[shard]
    objective_.loss(recorder, Batch(images, n, known, shard), seed)
    return recorder


@pytest.mark.parametrize("n", [2, 8, 9])
def test_antithetic_times_come_in_pairs(n):
    times = asked(objective(0, antithetic=True), n).times
    half = -(-n // 2)
    for first, second in zip(times, times[half:], strict=False):
        assert first + second == 999
    if n % 2 == 0:
        assert sum(times) / n == pytest.approx(999 / 2)
    assert len(set(times)) > 1


@pytest.mark.parametrize(("share", "tolerance"), [(0.0, 0), (0.1, 0.02), (1.0, 0)])
def test_a_share_of_the_labels_becomes_the_null_label(share, tolerance):
    labels = torch.arange(3000) % 3
    found = torch.tensor(asked(objective(label_dropout=share), 3000, labels).labels)
    hidden = found == 3
    assert torch.equal(found[~hidden], labels[~hidden])
    assert hidden.double().mean().item() == pytest.approx(share, abs=tolerance)


def test_hidden_labels_belong_to_the_global_batch():
    labels = torch.arange(12) % 3
    objective_ = objective(label_dropout=0.5, antithetic=True)
    whole = asked(objective_, 12, labels)
    for rank in range(2):
        shard = slice(rank, None, 2)
        part = asked(objective_, 12, labels, shard=shard)
        assert part.labels == whole.labels[shard]
        assert part.times == whole.times[shard]


def test_times_do_not_depend_on_labels():
    """The first system's draws stay as they are."""
    plain, labelled = objective(0), objective(label_dropout=0.5)
    assert asked(plain, 16).times == asked(labelled, 16, torch.zeros(16).long()).times


def test_about_half_of_the_images_are_mirrored_and_nothing_else_is_drawn_otherwise():
    """At almost no noise the network sees the images themselves."""
    images = torch.linspace(0, 1, 8).expand(200, 1, 1, 8)
    labels = torch.arange(200) % 3
    seen = {}

    def look(flip, shard=ALL):
        objective_ = objective(label_dropout=0.5, flip=flip)
        objective_.max_t = 1
        noisy = []

        def network(x_t, t, class_labels):
            noisy.append((x_t, class_labels))
            return torch.zeros_like(x_t)

        objective_.loss(network, Batch(images[shard], 200, labels[shard], shard), 0)
        return noisy[0]

    for flip in (False, True):
        x_t, seen[flip] = look(flip)
        falling = x_t[:, 0, 0, 0] > x_t[:, 0, 0, -1]
        assert falling.double().mean().item() == pytest.approx(0.5 * flip, abs=0.1)
    assert torch.equal(seen[True], seen[False])
    half = slice(1, None, 2)
    assert torch.equal(look(True, half)[0], look(True)[0][half])


@pytest.mark.parametrize(("data_range", "expected"), [("01", [0, 0.5]), ("pm1", [-0.5, 0.5])])
def test_the_data_range_is_converted_to_the_model_and_back(data_range, expected):
    options = DiffusionOptions(model_type="tiny", data_range=data_range, b_scale=0.5)
    model = Diffusion(options, (1, 8, 8))
    images = torch.tensor([0.0, 1.0])
    assert model.codec.encode(images).tolist() == expected
    assert model.codec.decode(model.codec.encode(images)).clamp(0, 1).tolist() == [0, 1]
    assert model.codec.decode(torch.tensor([-9.0, 9.0])).clamp(0, 1).tolist() == [0, 1]


class Slope(nn.Module):
    """One weight whose gradient is −100, by a loss of −100·weight an image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def loss(self, network, batch, seed):
        """Objective and network in one."""
        return -100 * self.weight.expand(len(batch.images))


@pytest.mark.parametrize(("clip", "moved"), [(0.0, 100.0), (1.0, 1.0), (500.0, 100.0)])
def test_the_gradients_norm_is_clipped(clip, moved):
    network = Slope()
    plan = Plan(lr=1.0, total_steps=1, seed=0, grad_clip=clip)
    trainer = Trainer(network, network.loss, plan, torch.optim.SGD(network.parameters(), lr=1.0))
    list(trainer.epoch([Batch(torch.zeros(2, 1), 2)]))
    assert network.weight.item() == pytest.approx(moved, rel=1e-4)
