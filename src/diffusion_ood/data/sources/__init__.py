"""The data sets that `get_datasets.py` prepares: one file and one line of `SOURCES` each."""

from __future__ import annotations

from diffusion_ood.data.sources import (
    celeba,
    cifar10,
    fashion_mnist,
    mnist,
    mnist5k,
    photo_patches,
    svhn,
)
from diffusion_ood.data.sources.base import Source

SOURCES: dict[str, Source] = {
    "MNIST": mnist.SOURCE,
    "FashionMNIST": fashion_mnist.SOURCE,
    "CIFAR10": cifar10.SOURCE,
    "SVHN": svhn.SOURCE,
    "CelebA": celeba.SOURCE,
    "MNIST5k": mnist5k.SOURCE,
    "PhotoPatches": photo_patches.SOURCE,
}
