"""How well maps show lesions, by the network calls that they may cost, and beside a control.

    get_datasets.py --corrupt=lesions --of=data_splits/MNIST5k_test.csv --first_n=100
    benchmarks/maps.py --checkpoint=… --validation_ids=… --output=FOLDER
        --lesions=data_splits/MNIST5k_test_lesions3.csv --masks=MNIST5k_test_lesions3_masks

The control is the smoothed brightness, which needs no model: lesions lie on or beside the object.
Maps are written to `maps<budget>/` in FOLDER, as ood_detection.py reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from diffusion_ood.data.loaders import ImageSet, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.detection.pixel_files import assess_pixels
from diffusion_ood.detection.pixel_metrics import PIXEL_TITLES
from diffusion_ood.methods.base import ImageBatch
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.joined import joined
from diffusion_ood.methods.measure import content_key
from diffusion_ood.methods.pixel_maps import SMOOTHING, PixelCalibration, PixelMaps
from diffusion_ood.model import Diffusion
from diffusion_ood.options import LoadingOptions, ReconstructOptions
from diffusion_ood.report.text import bounds, percent
from diffusion_ood.trajectories.evaluator import Evaluator

BATCH = 50


def main() -> None:
    """Make the maps, and print their metrics."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("checkpoint", "validation_ids", "lesions", "masks", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--first_n_val", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[3, 30])
    given = parser.parse_args()
    evaluator = Evaluator(Diffusion.load(given.checkpoint), "cpu", compile="off")
    validation = opened(given.validation_ids, evaluator.diffusion, given.first_n_val)
    lesions = opened(given.lesions, evaluator.diffusion, None)
    for budget in given.budgets:
        options = ReconstructOptions(methods=("joined",), budget=budget, scores=("mse",))
        (denoising,) = (m for m in joined(options) if isinstance(m, Denoising))
        method = PixelMaps.beside(denoising)
        calibration = PixelCalibration(evaluator.diffusion.image_shape[1:])
        for raw in evidence(method, validation, evaluator):
            calibration.update(raw)
        calibration.finish()
        parts = [calibration.maps(raw) for raw in evidence(method, lesions, evaluator)]
        report(given.output / f"maps{budget}", np.concatenate(parts), lesions, given.masks)
    sigmas = [0, *(SMOOTHING * side for side in evaluator.diffusion.image_shape[1:])]
    pixels = lesions.batch(range(len(lesions))).mean(1).numpy()
    report(given.output / "brightness", gaussian_filter(pixels, sigmas), lesions, given.masks)


def opened(path: Path, model: Diffusion, first: int | None) -> ImageSet:
    """The first images of a split."""
    split = read_split(path)
    chosen, loading = split.first(first) if first else split, LoadingOptions(cache_data=False)
    return open_images(chosen, model.image_options, loading, progress=False)


def evidence(
    method: PixelMaps, images: ImageSet, evaluator: Evaluator
) -> Iterator[NDArray[np.float32]]:
    """What the method gives of all images, part by part."""
    for start in range(0, len(images), BATCH):
        pixels = images.batch(range(start, min(start + BATCH, len(images))))
        batch = ImageBatch(pixels, [content_key(image) for image in pixels])
        for rows in method.measure(batch, evaluator):
            yield rows.measured.numpy()


def report(folder: Path, maps: NDArray[np.float32], images: ImageSet, masks: Path) -> None:
    """Write maps, and print how well they show lesions."""
    for path, one in zip(images.split.images, maps, strict=True):
        target = folder / f"{path.replace('../', '')}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, one)
    found = assess_pixels(folder, masks, n_bootstrap=1000, seed=2).metrics
    shown = [f"{percent(found[key].value)}{bounds(found[key])}" for key in PIXEL_TITLES]
    print(" | ".join([folder.name, *shown]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
