"""How far samples are from real images, by the Fréchet distance of a stated network's features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet, image_batches, open_images
from diffusion_ood.data.skipped import report_skipped
from diffusion_ood.data.splits import read_split
from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import digest, require_alexnet_features
from diffusion_ood.networks.features import INCEPTION_FILE, AlexNetFeatures, InceptionFeatures
from diffusion_ood.networks.resnet import load_classifier
from diffusion_ood.options import ImageOptions, LoadingOptions, SampleOptions
from diffusion_ood.quality.frechet import Matrix, frechet_distance, moments
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.device import prepare
from diffusion_ood.runtime.files import atomic_write, sha256

BATCH = 256


class SampleQuality:
    """The moments of samples' features beside those of real images, which are kept in `cache`.

    The diffusion model sees images of `image_shape`, `(C, *S)`.

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
        self._device = device
        self._features, network_digest, self._title = _features(options, device)
        split = read_split(options.reference_ids)
        images = open_images(split, image_options, loading, progress=distributed.is_main())
        report_skipped(images, "reference", cache.parent)
        if images.shape != image_shape:
            raise UserError(
                f"{split.path}: found images of {images.shape}, expected {image_shape} like the "
                "diffusion model's"
            )
        self._samples = self._moments(torch.zeros(0, *image_shape))
        content = repr((images.digests, images.split.edit, astuple(image_options))).encode()
        name = f"moments_{hashlib.sha256(content).hexdigest()[:12]}_{network_digest[:12]}.npy"
        if (cache / name).exists():
            self._reference = np.load(cache / name, allow_pickle=False)
            return
        self._reference = self._moments_of_set(images, loading.num_workers)
        if distributed.is_main():
            with atomic_write(cache / name, "wb") as file:
                np.save(file, self._reference)

    def add(self, images: Tensor) -> None:
        """Take in samples `(B, C, *S)` in [0, 1]."""
        self._samples = self._samples + self._moments(images)

    def report(self) -> str:
        """The distance in words, over all processes' samples; every process has to ask for it."""
        samples = sum(distributed.gather(self._samples))
        counts = int(samples[0, 0]), int(self._reference[0, 0])
        if min(counts) < 2:
            return "two samples and two real images are needed for a Fréchet distance"
        distance = frechet_distance(samples, self._reference)
        remark = "" if self._title == "FID" else " (not the FID of Inception features)"
        return (
            f"{self._title}, {counts[0]} samples against {counts[1]} images: {distance:.4f}{remark}"
        )

    def _moments_of_set(self, images: ImageSet, num_workers: int) -> Matrix:
        """Those of all images, of which each process takes its share."""
        order = [part.tolist() for part in torch.arange(len(images)).split(BATCH)]
        batches = image_batches(images, distributed.shard(order), num_workers)
        own = sum(map(self._moments, batches), start=np.zeros_like(self._samples))
        total: Matrix = sum(distributed.gather(own))
        return total

    @torch.inference_mode()
    def _moments(self, images: Tensor) -> Matrix:
        return moments(self._features(images.to(self._device)).float().cpu().numpy())


def _features(
    options: SampleOptions, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], str, str]:
    """The network of the features, a digest of it, and what its distance is called.

    Raises:
        UserError: its weights are not there.
    """
    title = f"Fréchet distance of {options.features} features"
    if options.features == "inception":
        inception = InceptionFeatures(options.inception_weights)
        own = inception.digest.startswith(Path(INCEPTION_FILE).stem[-8:])
        return inception.to(device), inception.digest, "FID" if own else title
    if options.features == "classifier":
        path = options.classifier_checkpoint
        if path is None:
            raise UserError("`features` classifier: found no `classifier_checkpoint`")
        classifier, _ = load_classifier(path)
        prepare(classifier, device)
        return lambda images: classifier(images)[1], sha256(path), title
    weights = require_alexnet_features(options.lpips_weights)
    return AlexNetFeatures(weights).to(device), digest(weights), title
