"""The one loop from images to rows: batches are measured, and their rows become a table."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from diffusion_ood.methods.base import ImageBatch, Method, Rows
from diffusion_ood.model import Diffusion
from diffusion_ood.trajectories.evaluator import Evaluator

GATHER_S = 5.0  # writing every image by itself would be slow


def measure(
    method: Method,
    images: ArrayLike | Tensor,
    evaluator: Evaluator,
    *,
    keys: Sequence[str] | None = None,
    classes: Sequence[int] | None = None,
    batch_size: int = 64,
) -> pd.DataFrame:
    """The table of what a method measures of images.

    Args:
        method: what is measured.
        images: shape `(N, C, *S)` in [0, 1], in the model's size.
        evaluator: the model on its device.
        keys: what images are called in the table, and their noise is drawn by; by default a digest
            of each image's content, so that equal images have equal numbers.
        classes: of each image, for a method that tells the model the true class.
        batch_size: images that are measured at a time; the numbers do not depend on it.

    Returns:
        Columns filename, t, repeat where there are several, and the method's; image by image.

    Raises:
        ValueError: images of another shape than the model's, or not one key an image.
        UserError: a model that the method cannot measure with.
    """
    pixels = torch.as_tensor(images, dtype=torch.float32)
    diffusion = evaluator.diffusion
    if tuple(pixels.shape[1:]) != diffusion.image_shape:
        raise ValueError(
            f"found images of {tuple(pixels.shape[1:])}, expected {diffusion.image_shape}"
        )
    method.check(diffusion)
    names = _names(pixels, keys)
    known = None if classes is None else torch.as_tensor(classes)
    evaluator.expect(len(names) * method.calls(diffusion))
    tables = []
    for k in range(0, len(names), batch_size):
        part = slice(k, k + batch_size)
        batch = ImageBatch(
            pixels[part].to(evaluator.device), names[part], None if known is None else known[part]
        )
        rows = list(method.measure(batch, evaluator))
        order = torch.tensor([image for found in rows for image in found.images]).argsort()
        values = torch.cat([found.measured for found in rows])[order]
        tables.append(table(method, diffusion, names[part], values))
    if not tables:
        tables = [table(method, diffusion, [], torch.empty(0, 0, len(method.columns)))]
    return pd.concat(tables, ignore_index=True)


def _names(images: Tensor, keys: Sequence[str] | None) -> list[str]:
    """What images are called: by their keys, or by their content."""
    if keys is None:
        return [content_key(image) for image in images]
    if len(keys) != len(images):
        raise ValueError(f"found {len(keys)} keys, expected {len(images)}, one an image")
    return list(keys)


def content_key(image: Tensor) -> str:
    """A digest of an image's shape and pixels, float32 `(C, *S)`."""
    pixels = image.detach().cpu().contiguous().numpy().astype("<f4")
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def finished(rows: Iterator[Rows], num_images: int) -> Iterator[Rows]:
    """The rows of a batch, those of several images together, at most every `GATHER_S` seconds."""
    kept: list[Rows] = []
    last, left = time.monotonic(), num_images
    for found in rows:
        kept.append(found)
        left -= len(found.images)
        if not left or time.monotonic() - last >= GATHER_S:
            images = [image for part in kept for image in part.images]
            yield Rows(images, torch.cat([part.measured for part in kept]))
            kept, last = [], time.monotonic()


def table(
    method: Method, diffusion: Diffusion, keys: Sequence[str], values: Tensor, kind: str = ""
) -> pd.DataFrame:
    """The rows of n images, image by image, t and then repeat rising.

    Args:
        method: what was measured.
        diffusion: the model.
        keys: of the images.
        values: shape `(n, draws, columns)`.
        kind: `val`, `in` or `out`, the column type; without, there is no such column.
    """
    draws = method.draws(diffusion)
    found = pd.DataFrame({"filename": [key for key in keys for _ in draws]})
    if kind:
        found["type"] = kind
    found["t"] = [t for t, _ in draws] * len(keys)
    if any(repeat for _, repeat in draws):
        found["repeat"] = [repeat for _, repeat in draws] * len(keys)
    for k, column in enumerate(method.columns):
        found[column] = values[:, :, k].flatten().numpy()
    return found
