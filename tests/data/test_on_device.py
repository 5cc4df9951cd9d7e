"""Images that are held on a device are those of the packed file, told by the CPU in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_ood.data import on_device
from diffusion_ood.data.loaders import ImageSet, image_batches, open_images
from diffusion_ood.data.packed import Packed
from diffusion_ood.data.splits import read_split
from diffusion_ood.options import ImageOptions, LoadingOptions
from diffusion_ood.runtime.checkpoint import load_checkpoint

CPU = torch.device("cpu")
ORDER = [[3, 0, 11], [], [5], [5, 5, 1, 2]]
KINDS = {
    "bytes": ImageOptions(is_grayscale=True),
    "resized": ImageOptions(is_grayscale=True, image_size=6),
    "cropped": ImageOptions(image_roi=(4, 6)),
}


def opened(splits: Path, options: ImageOptions, *, packed: bool = True) -> ImageSet:
    loading = LoadingOptions(num_workers=0, cache_data=packed)
    return open_images(read_split(splits / "A_train.csv"), options, loading, progress=False)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of images that a CPU with plenty of memory of its own was made to hold."""
    held: list[int] = []

    class Noted(on_device.HeldImages):
        def __init__(self, images: ImageSet, packed: Packed, device: torch.device) -> None:
            held.append(len(images))
            super().__init__(images, packed, device)

    monkeypatch.setattr(on_device, "HeldImages", Noted)
    monkeypatch.setattr(on_device, "free_bytes", lambda _: 2**30)
    return held


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("slice_bytes", [1, 200, 2**26])
def test_held_batches_are_those_of_the_packed_file_to_the_bit(
    options: ImageOptions,
    slice_bytes: int,
    splits: Path,
    roomy: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_device, "SLICE_BYTES", slice_bytes)
    images = opened(splits, options)
    assert isinstance(images.images, Packed)
    assert images.images.images.dtype == (np.float32 if options.image_size else np.uint8)
    found = list(on_device.training_batches(images, CPU, 0)(ORDER))
    assert roomy == [12]
    for one, expected in zip(found, image_batches(images, ORDER, 0), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, expected)


def test_more_than_a_quarter_of_what_is_free_is_not_held(
    splits: Path, roomy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = opened(splits, KINDS["bytes"])
    for free, held in ((4 * 12 * 64, [12]), (4 * 12 * 64 - 1, [])):
        roomy.clear()
        monkeypatch.setattr(on_device, "free_bytes", lambda _, free=free: free)
        found = on_device.training_batches(images, CPU, 0)(ORDER)
        assert torch.equal(next(found), images.batch(ORDER[0]))
        assert roomy == held


def test_what_is_not_packed_is_not_held(splits: Path, roomy: list[int]) -> None:
    images = opened(splits, KINDS["bytes"], packed=False)
    found = list(on_device.training_batches(images, CPU, 0)(ORDER))
    assert not roomy
    assert all(map(torch.equal, found, image_batches(images, ORDER, 0)))


def test_the_memory_of_a_cpu_is_not_counted() -> None:
    assert on_device.free_bytes(CPU) == 0


def test_a_run_on_held_images_learns_the_same(
    train: Callable[..., Path], roomy: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [train(tmp_path / "held", "--augmentation")]
    assert roomy == [12]
    monkeypatch.setattr(on_device, "free_bytes", lambda _: 0)
    runs.append(train(tmp_path / "not", "--augmentation"))
    assert roomy == [12]
    held, other = (load_checkpoint(run / "checkpoint.pth")["weights"] for run in runs)
    assert all(torch.equal(held[name], other[name]) for name in other)
