"""Pixel metrics against a brute-force computation: thresholds, flood fill, no library."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_ood.detection.pixel_files import assess_pixels
from diffusion_ood.detection.pixel_metrics import evaluate_pixels, resized
from diffusion_ood.errors import UserError

Pairs = tuple[list[np.ndarray], list[np.ndarray]]


def regions(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Connected components by flood fill over all neighbours, diagonals too."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = []
    while left:
        stack, region = [left.pop()], set()
        while stack:
            at = stack.pop()
            region.add(at)
            near = {o for o in left if max(abs(a - b) for a, b in zip(at, o, strict=True)) == 1}
            left -= near
            stack += near
        found.append(region)
    return found


def brute_force(maps: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
    """Every threshold one by one."""
    scores = [float(v) for m in maps for v in m.ravel()]
    truth = [bool(v) for m in masks for v in m.ravel()]
    positive = [s for s, t in zip(scores, truth, strict=True) if t]
    negative = [s for s, t in zip(scores, truth, strict=True) if not t]
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    of_region = [
        [float(m[at]) for at in region]
        for m, mask in zip(maps, masks, strict=True)
        for region in regions(mask)
    ]
    precision_sum, last_recall = 0.0, 0.0
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        tp = sum(s >= threshold for s in positive)
        fp = sum(s >= threshold for s in negative)
        precision_sum += (tp / len(positive) - last_recall) * tp / (tp + fp)
        last_recall = tp / len(positive)
        shares = [sum(s >= threshold for s in region) / len(region) for region in of_region]
        curve.append((fp / len(negative), sum(shares) / len(shares)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= 0.3 or x0 == x1:
            continue
        if x1 > 0.3:
            y1 = y0 + (y1 - y0) * (0.3 - x0) / (x1 - x0)
            x1 = 0.3
        area += (x1 - x0) * (y0 + y1) / 2
    auroc = wins / len(positive) / len(negative)
    return {"auroc": auroc, "ap": precision_sum, "aupro": area / 0.3}


def pairs(seed: int, n: int = 4, sides: tuple[int, ...] = (9, 7), ties: bool = False) -> Pairs:
    rng = np.random.default_rng(seed)
    masks = [rng.random(sides) < 0.15 for _ in range(n)]
    maps = [rng.normal(size=sides) + 1.2 * mask for mask in masks]
    return [m.round() if ties else m for m in maps], masks


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sides", [(9, 7), (4, 5, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_those_of_every_threshold(
    seed: int, sides: tuple[int, ...], ties: bool
) -> None:
    maps, masks = pairs(seed, sides=sides, ties=ties)
    masks[0][:] = False  # an image without a lesion counts by its normal pixels
    found = evaluate_pixels(maps, masks, n_bootstrap=0)
    values = {name: interval.value for name, interval in found.metrics.items()}
    assert values == pytest.approx(brute_force(maps, masks), abs=1e-12)
    assert found.num_images == 4
    assert found.num_with_lesions == 3
    assert found.num_lesions == sum(len(regions(mask)) for mask in masks)
    assert all(interval.low is None for interval in found.metrics.values())


def test_small_lesions_count_as_much_as_large_ones() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = mask[15, 15] = True
    found_large = evaluate_pixels([mask * 1.0 - (np.arange(400).reshape(20, 20) == 315)], [mask])
    assert found_large.metrics["aupro"].value == pytest.approx(0.5 + 0.5 * 0.15, abs=1e-3)
    assert found_large.metrics["auroc"].value > 0.98
    perfect = evaluate_pixels([mask.astype(float)] * 2, [mask] * 2)
    assert [i.value for i in perfect.metrics.values()] == [1, 1, 1]


def test_intervals_are_those_of_resampled_images_and_of_the_seed() -> None:
    maps, masks = pairs(5, n=30)
    found = evaluate_pixels(maps, masks, n_bootstrap=400, seed=1).metrics
    assert found == evaluate_pixels(maps, masks, n_bootstrap=400, seed=1).metrics
    assert found != evaluate_pixels(maps, masks, n_bootstrap=400, seed=2).metrics
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(200):
        chosen = rng.integers(30, size=30)
        again = evaluate_pixels(
            [maps[i] for i in chosen], [masks[i] for i in chosen], n_bootstrap=0
        )
        for name, interval in again.metrics.items():
            drawn[name].append(interval.value)
    for name, interval in found.items():
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low < interval.value < interval.high
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        assert [interval.low, interval.high] == pytest.approx([low, high], abs=0.3 * (high - low))


def test_of_one_image_there_is_no_interval() -> None:
    maps, masks = pairs(0, n=1)
    assert evaluate_pixels(maps, masks).metrics["auroc"].low is None
    masks.append(np.zeros((9, 7), bool))
    found = evaluate_pixels([*maps, maps[0]], masks, n_bootstrap=50).metrics["aupro"]
    assert found.low is not None  # resamples without a lesion are left out


@pytest.mark.parametrize(
    ("maps", "masks"),
    [
        ([], []),
        ([np.zeros((3, 3))], [np.zeros((3, 3))]),
        ([np.zeros((3, 3))], [np.ones((3, 3))]),
        ([np.zeros((3, 3))], [np.eye(3), np.eye(3)]),
        ([np.zeros((3, 3, 3))], [np.eye(3)]),
        ([np.full((3, 3), np.nan)], [np.eye(3)]),
        ([np.zeros((0, 3))], [np.eye(3)]),
    ],
)
def test_what_cannot_be_measured_is_refused(maps: list, masks: list) -> None:
    with pytest.raises(ValueError, match="found"):
        evaluate_pixels(maps, masks)


def test_a_map_takes_the_size_of_its_mask_between_the_middles_of_pixels() -> None:
    ramp = np.arange(4.0)[:, None] + np.zeros((4, 6))
    found = resized(ramp, (8, 6))
    expected = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    np.testing.assert_allclose(found, expected[:, None] + np.zeros((8, 6)), atol=1e-12)
    assert resized(ramp, (13, 29)).shape == (13, 29)
    np.testing.assert_array_equal(resized(ramp, (4, 6)), ramp)


def write(folder: Path, files: dict[str, np.ndarray]) -> Path:
    for name, array in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".npy"):
            np.save(path, array)
        else:
            Image.fromarray(array).save(path)
    return folder


def test_files_of_equal_names_belong_together(tmp_path: Path) -> None:
    maps, masks = pairs(1)
    expected = evaluate_pixels(maps, masks, n_bootstrap=20, seed=3)
    as_bytes = [mask.astype(np.uint8) * 255 for mask in masks]
    flat = {f"{i}.npy": m for i, m in enumerate(maps)}
    nested = {f"set/test/{i}.png.npy": m.astype(np.float64) for i, m in enumerate(maps)}
    pictures = {f"test/{i}.png": m for i, m in enumerate(as_bytes)}
    colours = {f"{i}.png": np.repeat(m[..., None], 3, 2) for i, m in enumerate(as_bytes)}
    arrays = {f"{i}.nii.gz.npy": m for i, m in enumerate(as_bytes)}
    for k, (of_maps, of_masks) in enumerate(
        [(flat, pictures), (nested, pictures), (flat, colours), (nested, arrays)]
    ):
        folders = write(tmp_path / f"a{k}", of_maps), write(tmp_path / f"b{k}", of_masks)
        assert assess_pixels(*folders, n_bootstrap=20, seed=3) == expected


def test_files_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    maps, masks = pairs(1, n=3)
    as_bytes = [mask.astype(np.uint8) * 255 for mask in masks]
    of_maps = write(tmp_path / "maps", {f"{i}.npy": m for i, m in enumerate(maps)})
    of_masks = write(tmp_path / "masks", {f"{i}.png": m for i, m in enumerate(as_bytes)})

    def said() -> str:
        with pytest.raises(UserError) as error:
            assess_pixels(of_maps, of_masks, n_bootstrap=0, seed=0)
        assert len(error.value.args) == 1
        return str(error.value)

    (of_masks / "1.png").rename(of_masks / "9.png")
    assert "1.npy" in said()
    (of_masks / "9.png").rename(of_masks / "1.png")
    np.save(of_masks / "2.npy", as_bytes[2])
    assert "2.png" in said()
    (of_masks / "2.npy").unlink()
    for wrong in (np.full((9, 7), np.inf), np.zeros((9, 7, 3)), np.zeros((9, 7), int)):
        np.save(of_maps / "0.npy", wrong)
        assert "0.npy" in said()
    (of_maps / "0.npy").write_bytes(b"torn")
    assert "0.npy" in said()
    np.save(of_maps / "0.npy", np.array([{}]), allow_pickle=True)
    assert "0.npy" in said()
    np.save(of_maps / "0.npy", maps[0])
    (of_masks / "0.png").write_bytes(b"torn")
    assert "0.png" in said()
    for i in range(3):
        Image.fromarray(np.zeros((9, 7), np.uint8)).save(of_masks / f"{i}.png")
    assert str(of_masks) in said()
    (tmp_path / "empty").mkdir()
    of_masks = tmp_path / "empty"
    assert "empty" in said()
