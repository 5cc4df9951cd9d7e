"""AlexNet's convolution weights, which LPIPS needs, from a file or torch's cache.

`networks.alexnet_download` puts them into the cache. The ten tensors are the same whichever way
they came; their digest is checked before they are used.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from diffusion_ood.errors import UserError

Weights = dict[str, Tensor]

DIGEST = "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a"
LAYERS = (0, 3, 6, 8, 10)  # the convolutions' places in torchvision's `features`
FILES = ("lpips_alexnet_features.pth", "alexnet-owt-7be5be79.pth")  # ours, torchvision's
MISSING = "AlexNet's weights are not in torch's cache; `diffusion-ood weights` fetches them"


def find_alexnet_features(path: Path | None = None) -> Weights | None:
    """The tensors `features.<layer>.{weight,bias}` of torchvision's ImageNet AlexNet.

    From `path`; by default from torch's cache, and None where it lacks them.

    Raises:
        UserError: the file does not hold these very tensors.
    """
    path = path or cached_file()
    if path is None:
        return None
    try:
        return checked(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever torch.load meets in a file that is something else
        reason = str(error).split("\n")[0]
        raise UserError(
            f"`lpips_weights`: {path}: expected torchvision's AlexNet weights; {reason}"
        ) from error


def require_alexnet_features(path: Path | None = None) -> Weights:
    """The same; to lack them is a `UserError`, too."""
    weights = find_alexnet_features(path)
    if weights is None:
        raise UserError(MISSING)
    return weights


def cache_folder() -> Path:
    """Where torch keeps weights."""
    return Path(torch.hub.get_dir(), "checkpoints")


def cached_file() -> Path | None:
    """The first of `FILES` that is in torch's cache."""
    return next((p for name in FILES if (p := cache_folder() / name).is_file()), None)


def digest(weights: Weights) -> str:
    """SHA-256 over the tensors' names and little-endian float32 values, in the names' order."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].detach().cpu().numpy().astype("<f4").tobytes())
    return total.hexdigest()


def checked(weights: Weights) -> Weights:
    """The ten tensors alone.

    Raises:
        KeyError: one is missing.
        ValueError: they have other values.
    """
    names = [f"features.{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    weights = {name: weights[name] for name in names}
    if digest(weights) != DIGEST:
        raise ValueError(f"found tensors of digest {digest(weights)}, expected {DIGEST}")
    return weights
