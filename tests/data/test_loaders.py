"""Loaders: the same values packed or not, and every image once over all processes."""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_ood.data.loaders import ImageSet, epoch_order, image_batches, open_images
from diffusion_ood.data.splits import read_split, write_split
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions, LoadingOptions

GREY = ImageOptions(is_grayscale=True)
UNPACKED = LoadingOptions(cache_data=False, num_workers=0)
PACKED = LoadingOptions(num_workers=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven random images of 6 x 5 pixels and their split."""
    rng = np.random.default_rng(0)
    for i in range(7):
        pixels = rng.integers(0, 256, (6, 5), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    write_split(tmp_path / "A_test.csv", [f"{i}.png" for i in range(7)], list("bacbacb"))
    return tmp_path


def opened(
    folder: Path, options: ImageOptions, loading: LoadingOptions, name: str = "A_test.csv"
) -> ImageSet:
    return open_images(read_split(folder / name), options, loading, progress=False)


@pytest.mark.parametrize("loading", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_a_batch_is_the_files_pixels_over_255(folder: Path, loading: LoadingOptions) -> None:
    images = opened(folder, GREY, loading)
    assert (len(images), images.shape, images.native_sizes) == (7, (1, 6, 5), ((6, 5),))
    batch = images.batch([3, 0])
    assert batch.dtype == torch.float32
    expected = [np.asarray(Image.open(folder / f"{i}.png")) / np.float32(255) for i in (3, 0)]
    np.testing.assert_array_equal(batch[:, 0], expected)
    assert torch.equal(images[3], batch[0])
    assert images.batch([]).shape == (0, 1, 6, 5)


@pytest.mark.parametrize(
    "options",
    [
        GREY,
        ImageOptions(),
        ImageOptions(is_grayscale=True, image_size=4),
        ImageOptions(is_grayscale=True, image_size=9),
        ImageOptions(is_grayscale=True, image_roi=(3, -1), intensity_range=(20.0, 190.0)),
    ],
)
def test_packed_and_unpacked_are_equal_to_the_bit(folder: Path, options: ImageOptions) -> None:
    packed = opened(folder, options, PACKED)
    unpacked = opened(folder, options, UNPACKED)
    assert (packed.packed, unpacked.packed) == (True, False)
    assert packed.shape == unpacked.shape == packed[0].shape
    assert packed.native_sizes == unpacked.native_sizes
    assert torch.equal(packed.batch(range(7)), unpacked.batch(range(7)))


@pytest.mark.parametrize("loading", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize(("name", "axis"), [("A_vflip_test.csv", -2), ("A_test_hflip.csv", -1)])
def test_a_flipped_split_is_the_flipped_batch(
    folder: Path, loading: LoadingOptions, name: str, axis: int
) -> None:
    plain = opened(folder, GREY, loading).batch([1, 2])
    assert torch.equal(opened(folder, GREY, loading, name).batch([1, 2]), plain.flip(axis))


@pytest.mark.parametrize("loading", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_a_patched_image_is_half_another_along_each_side(
    folder: Path, loading: LoadingOptions
) -> None:
    split = read_split(folder / "A_test.csv")
    plain = open_images(split, GREY, loading, progress=False).batch(range(7))
    edited = replace(split, edit="patched")
    images = open_images(edited, GREY, loading, progress=False)
    found = images.batch(range(7))
    for k in range(7):
        donors = [1] if k == 0 else range(k)  # an earlier image
        changed = (found[k] != plain[k])[0].nonzero()
        assert 0 < len(changed) <= 3 * 2
        (top, left), (bottom, right) = changed.min(0).values, changed.max(0).values
        assert bottom - top < 3
        assert right - left < 2
        box = (..., slice(top, bottom + 1), slice(left, right + 1))
        assert any(torch.equal(found[k][box], plain[donor][box]) for donor in donors)
    assert torch.equal(images.batch([5, 2]), found[[5, 2]])
    first = open_images(edited.first(4), GREY, loading, progress=False)
    assert torch.equal(first.batch(range(4)), found[:4])


@pytest.mark.parametrize("loading", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_a_crop_beyond_the_image_is_refused(folder: Path, loading: LoadingOptions) -> None:
    options = ImageOptions(is_grayscale=True, image_roi=(-1, 6))
    with pytest.raises(UserError, match=r"A_test\.csv, row 2: `image_roi`: .*6 x 6.*6 x 5"):
        opened(folder, options, loading)


@pytest.mark.parametrize("loading", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_a_set_knows_the_content_of_its_files_and_their_values(
    folder: Path, loading: LoadingOptions
) -> None:
    images = opened(folder, GREY, loading)
    expected = [hashlib.sha256((folder / f"{i}.png").read_bytes()).hexdigest() for i in range(7)]
    assert list(images.digests) == [digest[:32] for digest in expected]
    assert list(images.intensity.stored) == ["uint8"]


def test_a_flipped_split_shares_the_packed_file(folder: Path) -> None:
    for name in ("A_test.csv", "A_vflip_test.csv", "A_hflip_test.csv"):
        opened(folder, GREY, PACKED, name)
    assert len(list((folder / ".cache").glob("*.npy"))) == 1


@pytest.mark.parametrize("loading", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_in_the_order_given(
    folder: Path, loading: LoadingOptions, num_workers: int
) -> None:
    images = opened(folder, GREY, loading)
    order = [[6, 0, 2], [], [1]]
    state = torch.get_rng_state()
    batches = list(image_batches(images, order, num_workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(batch) for batch in batches] == [3, 0, 1]
    for indices, batch in zip(order, batches, strict=True):
        assert torch.equal(batch, images.batch(indices))


def test_a_worker_s_error_arrives_as_its_sentence(folder: Path) -> None:
    images = opened(folder, GREY, UNPACKED)
    (folder / "2.png").unlink()
    with pytest.raises(UserError) as caught:
        list(image_batches(images, [[0], [2]], 1))
    assert str(caught.value).endswith("2.png: no such file, expected an image")


def test_sizes_are_compared_without_packing_too(folder: Path) -> None:
    Image.new("L", (8, 8)).save(folder / "4.png")
    with pytest.raises(UserError, match=r"4\.png: .*8 x 8 .*6 x 5"):
        opened(folder, GREY, UNPACKED)
    resized = ImageOptions(is_grayscale=True, image_size=6)
    for loading in (PACKED, UNPACKED):
        assert opened(folder, resized, loading).native_sizes == ((6, 5), (8, 8))


def test_volumes_are_batches_with_three_sides(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    np.save(tmp_path / "a.npy", volume)
    write_split(tmp_path / "V.csv", ["a.npy"])
    options = ImageOptions(is_grayscale=True, spatial_dimension=3)
    for loading in (PACKED, UNPACKED):
        images = opened(tmp_path, options, loading, "V.csv")
        np.testing.assert_array_equal(images.batch([0])[0, 0], volume)


def joined(batches: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def test_an_epoch_s_order_depends_on_seed_and_epoch_alone() -> None:
    def order(**changes: Any) -> list[list[int]]:
        return epoch_order(
            **{"n": 50, "batch_size": 8, "seed": 1, "epoch": 0, "drop_last": False, **changes}
        )

    batches = order()
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    flat = joined(batches)
    assert sorted(flat) == list(range(50))
    assert flat != sorted(flat)
    assert flat == joined(order(batch_size=7))
    assert flat != joined(order(epoch=1))
    assert flat != joined(order(seed=2))
    assert order(drop_last=True) == batches[:6]


@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_processes_sees_the_same_batches(world_size: int) -> None:
    whole = epoch_order(25, 6, seed=1, epoch=4, drop_last=False)
    shares = [
        epoch_order(25, 6, seed=1, epoch=4, rank=r, world_size=world_size, drop_last=False)
        for r in range(world_size)
    ]
    assert {len(share) for share in shares} == {len(whole)}
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(joined(parts)) == sorted(batch)
