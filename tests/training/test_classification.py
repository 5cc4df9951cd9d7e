"""The classifier's objective: its crops and flips, and its cross-entropy."""

import math

import pytest
import torch

from diffusion_ood.options import ImageOptions
from diffusion_ood.training.classifier_task import classification_loss, shifted
from diffusion_ood.training.trainer import Batch, Plan

IMAGES = torch.rand(6, 2, 5, 4, generator=torch.Generator().manual_seed(0)) + 0.1
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
ALL = slice(None)


class Recorder:
    """A network whose logits are the images' means times (1, 2, 3), and that keeps the images."""

    def __call__(self, images):
        """Logits and features."""
        self.images = images
        mean = images.flatten(1).mean(1, keepdim=True)
        return mean * torch.tensor([1.0, 2.0, 3.0]), mean


def seen(seed=0, shard=ALL, **settings):
    recorder = Recorder()
    batch = Batch(IMAGES[shard], 6, LABELS[shard], shard)
    losses = classification_loss(recorder, batch, seed, options=ImageOptions(), **settings)
    return recorder.images, losses


def test_a_shift_moves_and_fills_with_black():
    image = torch.arange(1.0, 7).reshape(1, 1, 2, 3)
    assert torch.equal(shifted(image, torch.tensor([[1, 1]]), 1), image)
    up_left = shifted(image, torch.tensor([[2, 2]]), 1)
    assert up_left.tolist() == [[[[5, 6, 0], [0, 0, 0]]]]
    down = shifted(image, torch.tensor([[0, 1]]), 1)
    assert down.tolist() == [[[[0, 0, 0], [1, 2, 3]]]]


def test_without_flips_and_padding_an_image_is_itself():
    images, losses = seen(flip=False, padding=0)
    assert torch.equal(images, IMAGES)
    mean = IMAGES.flatten(1).mean(1).tolist()
    expected = [
        math.log(sum(math.exp(k * m) for k in (1, 2, 3))) - (label + 1) * m
        for m, label in zip(mean, LABELS.tolist(), strict=True)
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_about_half_of_the_images_are_mirrored():
    mirrored = 0
    for seed in range(50):
        images, _ = seen(seed, flip=True, padding=0)
        for image, original in zip(images, IMAGES, strict=True):
            is_mirrored = torch.equal(image, original.flip(-1))
            assert is_mirrored or torch.equal(image, original)
            mirrored += is_mirrored
    assert mirrored / 300 == pytest.approx(0.5, abs=0.1)


def test_every_shift_within_the_padding_occurs():
    found = set()
    for seed in range(40):
        images, _ = seen(seed, flip=False, padding=1)
        for image, original in zip(images, IMAGES, strict=True):
            for down in range(3):
                for right in range(3):
                    shift = torch.tensor([[down, right]])
                    if torch.equal(shifted(original[None], shift, 1)[0], image):
                        found.add((down, right))
    assert len(found) == 9


@pytest.mark.parametrize("processes", [2, 3])
def test_flips_and_shifts_belong_to_the_global_batch(processes):
    settings = {"flip": True, "padding": 2}
    whole, _ = seen(4, **settings)
    for rank in range(processes):
        shard = slice(rank, None, processes)
        assert torch.equal(seen(4, shard, **settings)[0], whole[shard])
    assert not torch.equal(seen(5, **settings)[0], whole)


def test_the_learning_rate_warms_up_and_falls_to_its_end():
    plan = Plan(lr=1.0, total_steps=100, seed=0, lr_schedule="cosine", lr_end=0.2, warmup_steps=4)
    found = [plan.lr_at(step) for step in (0, 3, 50, 100)]
    fall = [0.2 + 0.4 * (1 + math.cos(math.pi * step / 100)) for step in (0, 3, 50, 100)]
    assert found == pytest.approx([fall[0] / 4, *fall[1:]], rel=1e-12)
