"""The ceiling: a small network that is shown the very set which detectors have to find unseen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

EPOCHS, BATCH, RATE = 12, 64, 2e-3


def ceiling(
    known: Tensor, shown: Tensor, tested_in: Tensor, tested_out: Tensor, *, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much each tested image looks like the shown ones to a classifier of both.

    Args:
        known: in-distribution images to learn from, `(N, C, H, W)` in [0, 1].
        shown: out-of-distribution images to learn from, `(M, C, H, W)`.
        tested_in, tested_out: other images of both kinds.
        seed: of the weights and the order.

    Returns:
        The logits of both tested sets.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(known.shape[1])
        images = torch.cat([known, shown])
        labels = torch.cat([torch.zeros(len(known)), torch.ones(len(shown))])
        weight = torch.tensor(len(known) / len(shown))
        loss = nn.BCEWithLogitsLoss(pos_weight=weight)
        steps = EPOCHS * -(-len(images) // BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(EPOCHS):
            for part in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                loss(network(images[part])[:, 0], labels[part]).backward()
                optimizer.step()
                schedule.step()
        network.eval()
        with torch.inference_mode():
            found = [network(part)[:, 0].double().numpy() for part in (tested_in, tested_out)]
    return found[0], found[1]


def _network(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width in (24, 48, 96):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(9 * channels, 1)
    )
