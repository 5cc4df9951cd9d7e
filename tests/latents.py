"""Latent models for tests: of an autoencoder that changes nothing, and of a small VQ-VAE."""

from __future__ import annotations

from typing import Any

import torch
from gaussian import random_diffusion
from torch import Tensor, nn

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.diffusion.codec import LatentCodec
from diffusion_ood.model import Diffusion
from diffusion_ood.options import AutoencoderOptions

TINY = AutoencoderOptions(
    model_type="vq_tiny",
    vqvae_num_channels=(4,),
    vqvae_num_res_layers=1,
    vqvae_num_embeddings=16,
    vqvae_embedding_dim=3,
)


class Identity(Autoencoder):
    """Latents are the images. `decoded` counts images that were decoded."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.image_shape = shape
        self.network = nn.Identity()
        self.digest, self.decoded = "identity", 0

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """That of the images."""
        return self.image_shape

    def encode(self, images: Tensor, quantised: bool = True) -> Tensor:
        """A copy."""
        return images.clone()

    def decode(self, z: Tensor) -> Tensor:
        """A copy."""
        self.decoded += len(z)
        return z.clone()

    def content(self) -> dict[str, Any]:
        """Nothing of use."""
        return {"digest": self.digest, "weights": {}}


def vq_vae(shape: tuple[int, ...] = (1, 16, 16), options: AutoencoderOptions = TINY) -> Autoencoder:
    """A VQ-VAE of random weights, whose codes lie about its encodings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = Autoencoder(options, shape)
        for parameter in found.network.parameters():
            if parameter.ndim > 1:
                parameter.data = torch.randn_like(parameter) / parameter[0].numel() ** 0.5
        z = found.encode(torch.rand(8, *shape), quantised=False).movedim(1, -1).flatten(0, -2)
        codes = found.network.codebook.embedding.weight
        codes.data = z[torch.randperm(len(z))[: len(codes)]].clone()
    found.digest = "vq"
    return found


def codec_of(autoencoder: Autoencoder, **how: Any) -> LatentCodec:
    """Its codec, normalised by random images."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(32, *autoencoder.image_shape, generator=generator)
    z = autoencoder.encode(images).transpose(0, 1).flatten(1)
    mean, std = z.mean(1), z.std(1, correction=0)
    return LatentCodec(autoencoder, mean, std, bounds_of_z=(-4.0, 4.0), **how)


def latent_diffusion(shape: tuple[int, ...] = (1, 16, 16), **how: Any) -> Diffusion:
    """A model of random weights on the latents of `vq_vae`."""
    codec = codec_of(vq_vae(shape), **how)
    options = {"latent_pad": codec.pad, "b_scale": codec.b_scale}
    if not codec.quantised:
        options["latent"] = "encoded"
    return random_diffusion(shape, codec=codec, **options)


def identity_pair(shape: tuple[int, ...] = (1, 8, 8)) -> tuple[Diffusion, Diffusion]:
    """A model of images, and one of the same weights on the latents of `Identity`."""
    c = shape[0]
    unit = (0.0, 1.0)
    codec = LatentCodec(
        Identity(shape), torch.zeros(c), torch.ones(c), limits_of_z=unit, bounds_of_z=unit
    )
    return random_diffusion(shape), random_diffusion(shape, codec=codec)
