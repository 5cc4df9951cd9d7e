"""The latents of a training's images: encoded once, into a file of the run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.data.formats.npy import open_npy
from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.data.packed import Packed
from diffusion_ood.data.readers import Array
from diffusion_ood.diffusion.codec import LatentCodec
from diffusion_ood.errors import UserError
from diffusion_ood.model import latent_options
from diffusion_ood.options import DiffusionOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.training.classifier_task import statistics
from diffusion_ood.training.task import in_batches

VERSION = 1
BATCH_VALUES = 2**23  # of the images that are read at a time
LEAST_STD = 1e-5  # of the largest: a channel below it has one value, and is left as it is


def encoded(
    sets: Sequence[ImageSet],
    autoencoder: Autoencoder,
    options: DiffusionOptions,
    folder: Path,
    num_workers: int,
    device: torch.device,
) -> tuple[LatentCodec, list[ImageSet]]:
    """The codec by the first of the sets, and all of them with latents `(c, *s)` for images.

    Every process calls this; the first one encodes what is not in the folder, and removes what is
    of other images or autoencoders unless a model was trained there.

    Raises:
        UserError: images that the autoencoder is not for, or that it takes for one and the same.
    """
    if sets[0].shape != autoencoder.image_shape:
        raise UserError(
            f"`vqvae_checkpoint`: found an autoencoder of images of {autoencoder.image_shape}, "
            f"expected {sets[0].shape} as in {sets[0].split.path}"
        )
    raw = autoencoder.latent_shape[:1]
    plain = LatentCodec(
        autoencoder, torch.zeros(raw), torch.ones(raw), quantised=options.latent == "quantised"
    )
    paths = [folder / f"latents_{_digest(images, plain)}.npy" for images in sets]
    if distributed.is_main():
        for images, path in zip(sets, paths, strict=True):
            if _opened(path, images, autoencoder) is None:
                _write(path, images, plain, num_workers, device)
        if not any(folder.glob("checkpoint*.pth")):  # whose latents these may be
            for path in set(folder.glob("latents_*.npy")) - set(paths):
                path.unlink()
    distributed.barrier()
    found = []
    for images, path in zip(sets, paths, strict=True):
        rows = _opened(path, images, autoencoder)
        if rows is None:
            raise UserError(f"{path}: found no latents, expected `output_dir` to be one folder")
        packed = Packed(rows, images.native_sizes, images.intensity)
        found.append(replace(images, images=packed, shape=autoencoder.latent_shape))
    return _fitted(autoencoder, found[0], options), found


def _fitted(autoencoder: Autoencoder, latents: ImageSet, options: DiffusionOptions) -> LatentCodec:
    """The codec that gives each channel of these the mean 0 and the deviation 1."""
    mean, std = statistics(latents)
    if std.max() <= 1e-6:  # what `statistics` says of equal values
        raise UserError(
            "`vqvae_checkpoint`: found the same latents everywhere in the training images, "
            "expected an autoencoder that was trained for longer"
        )
    std = torch.where(std > LEAST_STD * std.max(), std, 1.0)
    assert isinstance(latents.images, Packed)
    others = tuple(axis for axis in range(len(latents.shape) + 1) if axis != 1)
    rows = latents.images.images
    low, high = (torch.from_numpy(np.array(end(rows, axis=others))) for end in (np.min, np.max))
    bounds = float(((low - mean) / std).min()), float(((high - mean) / std).max())
    return LatentCodec(autoencoder, mean, std, bounds_of_z=bounds, **latent_options(options))


def _digest(images: ImageSet, codec: LatentCodec) -> str:
    """Of everything that latents follow from."""
    of_images = images.digests, astuple(images.options)
    depends = VERSION, codec.autoencoder.digest, codec.quantised, of_images
    return hashlib.sha256(repr(depends).encode()).hexdigest()[:32]


def _opened(path: Path, images: ImageSet, autoencoder: Autoencoder) -> Array | None:
    """The latents in a file; None where it is missing or of something else."""
    try:
        rows = open_npy(path)
    except (OSError, ValueError, EOFError):
        return None
    fits = rows.shape == (len(images), *autoencoder.latent_shape) and rows.dtype == np.float32
    return rows if fits else None


def _write(
    path: Path, images: ImageSet, codec: LatentCodec, num_workers: int, device: torch.device
) -> None:
    order = in_batches(len(images), max(1, BATCH_VALUES // math.prod(images.shape)))
    loaded = image_batches(images, order, num_workers)
    shape = len(images), *codec.autoencoder.latent_shape
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with atomic_write(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in tqdm(loaded, "encoding", len(order), unit="batch", disable=None):
            file.write(codec.raw_latents(batch.to(device)).cpu().numpy().astype("<f4").tobytes())
