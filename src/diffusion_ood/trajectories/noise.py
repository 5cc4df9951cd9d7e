"""Noise that belongs to an image, not to the batch it happens to be in."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def image_noise(shape: tuple[int, ...], seed: int, key: str, t: int, repeat: int = 0) -> Tensor:
    """Standard normal noise drawn from (seed, image key, t, repeat) alone.

    The same on every device, in every order and batch, and after an interruption.

    Args:
        shape: `(C, *S)` of the image.
        seed: of the run.
        key: the image's path as written in its split; of a volume a digest of its content.
        t: the start point; −1 for noise that all start points share.
        repeat: number of the draw at this start point.

    Returns:
        float32 noise of that shape, on the CPU.
    """
    words = "\0".join((str(seed), str(t), str(repeat), key)).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(words, digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
