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
from diffusion_ood.methods.pointwise import PointwiseMethod, measure_together
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
            of each image's content; equal images have equal numbers and -2, -3, … at their names.
        classes: of each image, for a method that tells the model the true class.
        batch_size: images that are measured at a time; the numbers do not depend on it.

    Returns:
        Columns filename, t, repeat where there are several, and the method's; image by image.

    Raises:
        ValueError: images of another shape or range; keys or classes that are not one an image.
        UserError: a model that the method cannot measure with.
    """
    pixels = torch.as_tensor(images, dtype=torch.float32)
    diffusion = evaluator.diffusion
    known = None if classes is None else torch.as_tensor(classes)
    _refuse_wrong(pixels, diffusion.image_shape, keys, known, batch_size)
    method.check(diffusion)
    names = list(keys) if keys is not None else [content_key(image) for image in pixels]
    again = pd.Series(names).groupby(names).cumcount()
    rows_of = [f"{key}-{k + 1}" if k else key for key, k in zip(names, again, strict=True)]
    evaluator.expect(len(names) * method.calls(diffusion))
    tables = []
    for k in range(0, len(names), batch_size):
        part = slice(k, k + batch_size)
        batch = ImageBatch(
            pixels[part].to(evaluator.device), names[part], None if known is None else known[part]
        )
        found = list(finished(method.measure(batch, evaluator), len(batch)))
        tables.append(table(method, diffusion, rows_of[part], in_order_of_images(found)))
    none = torch.empty(0, len(method.draws(diffusion)), len(method.columns))
    return pd.concat(tables or [table(method, diffusion, [], none)], ignore_index=True)


def measure_all(
    methods: Sequence[Method], batch: ImageBatch, evaluator: Evaluator
) -> dict[str, Tensor]:
    """What several methods measure of a batch, of which those that can share their network calls.

    Returns:
        By method, float32 on the CPU, `(B, draws, columns)`.
    """
    if not len(batch):
        draws = {method: len(method.draws(evaluator.diffusion)) for method in methods}
        return {m.name: torch.empty(0, draws[m], len(m.columns)) for m in methods}
    pointwise = [method for method in methods if isinstance(method, PointwiseMethod)]
    found: dict[str, list[Rows]] = {method.name: [] for method in methods}
    if pointwise:
        for one, rows in measure_together(pointwise, batch, evaluator):
            found[one.name].append(rows)
    for method in methods:
        if method not in pointwise:
            found[method.name] = list(finished(method.measure(batch, evaluator), len(batch)))
    return {name: in_order_of_images(rows) for name, rows in found.items()}


def in_order_of_images(rows: Sequence[Rows]) -> Tensor:
    """What was measured of all images, `(n, draws, columns)`."""
    order = torch.tensor([image for part in rows for image in part.images]).argsort()
    return torch.cat([part.measured for part in rows])[order]


def content_key(image: Tensor) -> str:
    """A digest of an image's shape and pixels, float32 `(C, *S)`."""
    pixels = image.detach().cpu().contiguous().numpy().astype("<f4")
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def _refuse_wrong(
    pixels: Tensor,
    shape: tuple[int, ...],
    keys: Sequence[str] | None,
    classes: Tensor | None,
    batch_size: int,
) -> None:
    if tuple(pixels.shape[1:]) != shape:
        raise ValueError(f"found images of {tuple(pixels.shape[1:])}, expected {shape}")
    num = len(pixels)
    if num and not (pixels.amin() >= 0 and pixels.amax() <= 1):
        raise ValueError("found images with values outside [0, 1]")
    if keys is not None and not len(keys) == len(set(keys)) == num:
        raise ValueError(f"found {len(keys)} keys for {num} images, expected as many and different")
    if classes is not None and len(classes) != num:
        raise ValueError(f"found {len(classes)} classes for {num} images")
    if batch_size < 1:
        raise ValueError(f"found a batch_size of {batch_size}, expected at least 1")


def finished(rows: Iterator[Rows], num_images: int) -> Iterator[Rows]:
    """The rows of a batch, those of several images together, at most every `GATHER_S` seconds.

    Raises:
        ValueError: at the end, unless each image was in them once.
    """
    kept: list[Rows] = []
    seen: list[int] = []
    last = time.monotonic()
    for found in rows:
        kept.append(found)
        seen += found.images
        if len(seen) == num_images or time.monotonic() - last >= GATHER_S:
            images = [image for part in kept for image in part.images]
            yield Rows(images, torch.cat([part.measured for part in kept]))
            kept, last = [], time.monotonic()
    if sorted(seen) != list(range(num_images)):
        raise ValueError(f"the images {seen} of {num_images} were measured, expected each once")


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

    Raises:
        ValueError: columns of the method that collide, or values of another shape.
    """
    draws = method.draws(diffusion)
    columns = method.columns
    if len({"filename", "type", "t", "repeat", *columns}) < 4 + len(columns):
        raise ValueError(f"found the columns {columns}, expected names that differ")
    shape = len(keys), len(draws), len(columns)
    if values.shape != shape:
        raise ValueError(f"found values of {tuple(values.shape)}, expected {shape}")
    found = pd.DataFrame({"filename": [key for key in keys for _ in draws]})
    if kind:
        found["type"] = kind
    found["t"] = [t for t, _ in draws] * len(keys)
    if any(repeat for _, repeat in draws):
        found["repeat"] = [repeat for _, repeat in draws] * len(keys)
    numbers = values.flatten(0, 1).numpy()
    of_method = pd.DataFrame(numbers, columns=list(columns))
    return pd.concat([found, of_method], axis=1)
