"""How far samples are from real images, by the Fréchet distance of a stated network's features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_ood.commands.skipping import report_skipped
from diffusion_ood.data.loaders import image_batches, open_images
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import digest, find_alexnet_features
from diffusion_ood.networks.features import AlexNetFeatures
from diffusion_ood.networks.inception import InceptionFeatures, find_inception
from diffusion_ood.networks.resnet import load_classifier
from diffusion_ood.options import ImageOptions, LoadingOptions, SampleOptions
from diffusion_ood.quality.frechet import Moments, frechet_distance
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.files import atomic_write, sha256

BATCH = 256


class SampleQuality:
    """The moments of samples' features beside those of real images.

    Args:
        options: which features, which real images.
        image_options: how the diffusion model sees images.
        image_shape: `(C, *S)` that it sees.
        loading: how the real images get from the disk.
        cache: folder in which the real images' moments are kept.
        device: where to compute.

    Raises:
        UserError: features that cannot be had, or real images of another size.
    """

    def __init__(
        self,
        options: SampleOptions,
        image_options: ImageOptions,
        image_shape: tuple[int, ...],
        loading: LoadingOptions,
        cache: Path,
        device: torch.device,
    ) -> None:
        assert options.reference_ids is not None, "made where real images are given"
        self.options = options
        self.device = device
        self._title = f"Fréchet distance of {options.features} features"
        self._features, self._digest = self._network()
        self._samples: Moments | None = None
        split = read_split(options.reference_ids)
        images = open_images(split, image_options, loading, progress=distributed.is_main())
        report_skipped(images, "reference", cache.parent)
        if images.shape != image_shape:
            raise UserError(
                f"{split.path}: found images of {images.shape}, expected {image_shape} like the "
                "diffusion model's"
            )
        content = repr((images.split.images, images.split.edit)).encode()
        digest_of_set = hashlib.sha256(content).hexdigest()
        path = cache / f"moments_{digest_of_set[:12]}_{self._digest[:12]}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as kept:
                self._reference = Moments(int(kept["count"]), kept["total"], kept["products"])
        else:
            order = [
                list(range(k, min(k + BATCH, len(images)))) for k in range(0, len(images), BATCH)
            ]
            mine = distributed.share_of(order)
            own = [self._moments(b) for b in image_batches(images, mine, loading.num_workers)]
            self._reference = _together(own or [self._moments(torch.zeros(0, *image_shape))])
            if distributed.is_main():
                with atomic_write(path, "wb") as file:
                    np.savez(file, **vars(self._reference))

    def add(self, images: Tensor) -> None:
        """Take in samples `(B, C, *S)` in [0, 1]."""
        found = self._moments(images)
        self._samples = found if self._samples is None else self._samples + found

    def report(self) -> str:
        """The distance in words, over all processes' samples; every process has to ask for it."""
        empty = Moments(0, 0 * self._reference.total, 0 * self._reference.products)
        samples = _together([self._samples or empty])
        if min(samples.count, self._reference.count) < 2:
            return "two samples and two real images are needed for a Fréchet distance"
        return (
            f"{self._title}, {samples.count} samples against {self._reference.count} images: "
            f"{frechet_distance(samples, self._reference):.4f}"
            + ("" if self._title == "FID" else " (not the FID of Inception features)")
        )

    @torch.inference_mode()
    def _moments(self, images: Tensor) -> Moments:
        return Moments.of(self._features(images.to(self.device)).float().cpu().numpy())

    def _network(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The features' network, and a digest of it; sets the distance's title."""
        if self.options.features == "inception":
            inception = InceptionFeatures(find_inception(self.options.inception_weights))
            self._title = inception.name
            return inception.to(self.device), inception.digest
        if self.options.features == "classifier":
            path = self.options.classifier_checkpoint
            if path is None:
                raise UserError("--features classifier: found no --classifier_checkpoint")
            classifier, _ = load_classifier(path)
            prepare(classifier, self.device)
            return lambda images: classifier(images)[1], sha256(path)
        weights = find_alexnet_features(self.options.lpips_weights)
        if weights is None:
            raise UserError("--features alexnet: its weights could not be had; --lpips_weights")
        return AlexNetFeatures(weights).to(self.device), digest(weights)


def _together(own: list[Moments]) -> Moments:
    """The moments of all processes."""
    total = own[0]
    for part in own[1:]:
        total = total + part
    first, *others = distributed.gather(total)
    for part in others:
        first = first + part
    return first
