"""The data sets that `get_datasets.py` prepares: one file and one line of `SOURCES` each."""

from __future__ import annotations

from diffusion_ood.data.sources import (
    celeba,
    cifar10,
    cifar100,
    fashion_mnist,
    mnist,
    mnist5k,
    photo_patches,
    places365,
    svhn,
    textures,
    tiny_imagenet,
)
from diffusion_ood.data.sources.base import Source

SOURCES: dict[str, Source] = {
    "MNIST": mnist.SOURCE,
    "FashionMNIST": fashion_mnist.SOURCE,
    "CIFAR10": cifar10.SOURCE,
    "CIFAR100": cifar100.SOURCE,
    "SVHN": svhn.SOURCE,
    "Textures": textures.SOURCE,
    "Places365": places365.SOURCE,
    "TinyImageNet": tiny_imagenet.SOURCE,
    "CelebA": celeba.SOURCE,
    "MNIST5k": mnist5k.SOURCE,
    "PhotoPatches": photo_patches.SOURCE,
}
