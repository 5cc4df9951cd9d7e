"""Training on a GPU: its steps as graphs, its images, and that nothing waits for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_ood.data.loaders import image_batches, open_images
from diffusion_ood.data.on_device import training_batches
from diffusion_ood.data.splits import read_split
from diffusion_ood.data.transforms import augmentation
from diffusion_ood.model import Diffusion
from diffusion_ood.networks.unet import add_dropout
from diffusion_ood.options import DiffusionOptions, ImageOptions, LoadingOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint
from diffusion_ood.runtime.device import pick_device, prepare
from diffusion_ood.training import run
from diffusion_ood.training.captured import CudaGraph
from diffusion_ood.training.objective import DiffusionObjective
from diffusion_ood.training.trainer import Batch, Plan, Trainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

SHAPE = (1, 16, 16)
ORDER = [[3, 0, 11], [5], [5, 5, 1, 2]]
ROUNDING = {"fp32": 1e-5, "bf16": 1e-3}  # of a loss, if a library took another kernel in a graph


def trainer(**changes: Any) -> Trainer:
    """Of a U-Net with classes and dropout, whose losses draw all that can be drawn."""
    device = pick_device("cuda")
    torch.manual_seed(0)
    model = Diffusion(DiffusionOptions(model_type="tiny", num_classes=3), SHAPE)
    for parameter in model.network.parameters():  # MONAI's last convolutions are zero
        torch.nn.init.normal_(parameter, std=0.05)
    add_dropout(prepare(model.network, device), 0.3)
    options = {"lr_schedule": "cosine", "warmup_steps": 3, "grad_clip": 0.5, "ema_decay": 0.9}
    plan = Plan(**{"lr": 1e-3, "total_steps": 30, "seed": 2, **options, **changes})
    objective = DiffusionObjective(model, 1000, label_dropout=0.3, flip=True)
    return Trainer(model.network, objective.loss, plan)


def batches(first: int, last: int, size: int = 8) -> Iterator[Batch]:
    for step in range(first, last):
        images = torch.rand(size, *SHAPE, generator=torch.Generator().manual_seed(step))
        yield Batch(images, size, torch.arange(size) % 3)


def weights(trainer_: Trainer) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in trainer_.evaluation_weights().items()}


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize(
    ("precision", "compiled"), [("fp32", False), ("bf16", False), ("bf16", True)]
)
def test_captured_steps_are_the_plain_ones(
    precision: str, compiled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, captured = trainer(precision=precision), trainer(precision=precision)
    for one in (plain, captured) if compiled else ():
        one.compile()
    assert captured.capture(CudaGraph(captured.device))
    expected = torch.stack(list(plain.epoch(batches(0, 12)))).cpu()
    found = torch.stack(list(captured.epoch(batches(0, 12)))).cpu()
    assert "without a CUDA graph" not in capsys.readouterr().out
    torch.testing.assert_close(found, expected, rtol=ROUNDING[precision], atol=0)
    assert largest_difference(weights(captured), weights(plain)) < 1e-3  # of steps of 1e-3 each


def test_captured_steps_are_resumed_to_the_bit() -> None:
    whole, half, rest = trainer(), trainer(), trainer()
    for one in (whole, half):
        one.capture(CudaGraph(one.device))
    list(whole.epoch(batches(0, 20)))
    list(half.epoch(batches(0, 10)))
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    rest.capture(CudaGraph(rest.device))
    list(rest.epoch(batches(10, 20)))
    assert largest_difference(weights(rest), weights(whole)) == 0


@pytest.mark.parametrize("as_graph", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_device(as_graph: bool, precision: str) -> None:
    one = trainer(precision=precision)
    if as_graph:
        one.capture(CudaGraph(one.device))
    list(one.epoch(batches(0, 5)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = list(one.epoch(batches(5, 10)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(losses).isfinite().all()


@pytest.mark.parametrize("size", [None, 6])
def test_held_images_are_those_of_the_cpu_to_the_bit(size: int | None, splits: Path) -> None:
    options = ImageOptions(is_grayscale=True, image_size=size)
    loading, device = LoadingOptions(num_workers=0), pick_device("cuda")
    images = open_images(read_split(splits / "A_train.csv"), options, loading, progress=False)
    load = training_batches(images, device, 0)
    expected = list(image_batches(images, ORDER, 0))
    assert "HeldImages" in repr(load)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = list(load(ORDER))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(one.device.type == "cuda" for one in found)
    assert all(torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))


def test_images_that_are_not_held_are_sent(splits: Path) -> None:
    loading = LoadingOptions(num_workers=0, cache_data=False)
    split, options = read_split(splits / "A_train.csv"), ImageOptions(is_grayscale=True)
    images = open_images(split, options, loading, progress=False)
    found = list(training_batches(images, pick_device("cuda"), 0)(ORDER))
    for one, other in zip(found, image_batches(images, ORDER, 0), strict=True):
        assert torch.equal(one.cpu(), other)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 12, 10, 9)])
def test_augmented_images_are_those_of_the_cpu(shape: tuple[int, ...]) -> None:
    images = torch.rand(16, *shape, generator=torch.Generator().manual_seed(0))
    augment, device = augmentation(shape, seed=1), pick_device("cuda")
    expected = augment(images, range(16))
    on_device = images.to(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augment(on_device, range(16))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("flags", [[], ["--precision=bf16", "--ema_decay=0.9", "--augmentation"]])
def test_a_run_of_graphs_is_resumed_to_the_bit(
    flags: list[str],
    train: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each part of the run begins with steps that are no graphs."""
    monkeypatch.setattr(run, "LEAST_STEPS", 1)
    flags = [*flags, "--device=cuda", "--compile=auto", "--batch_size=2"]
    for name, epochs in (("halves", 3), ("halves", 6), ("whole", 6)):
        train(tmp_path / name, *flags, f"--n_epochs={epochs}")
    said = capsys.readouterr().out
    assert said.count("each step becomes one graph") == 3
    assert "without a CUDA graph" not in said
    halves, whole = (
        load_checkpoint(tmp_path / name / "checkpoint.pth")["weights"]
        for name in ("halves", "whole")
    )
    assert largest_difference(halves, whole) == 0
