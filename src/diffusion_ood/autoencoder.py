"""The whole autoencoder: network, the images that it is for, and how files become them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_ood.errors import UserError
from diffusion_ood.networks.autoencoder import AutoencoderNetwork, build_autoencoder
from diffusion_ood.networks.weights import load_weights
from diffusion_ood.options import AutoencoderOptions, ImageOptions
from diffusion_ood.options.stored import stored_entry, stored_options, stored_shape, to_dict
from diffusion_ood.runtime.checkpoint import AncestorCheckpoint, load_checkpoint

KIND = "a checkpoint of train_vqvae.py"


class Autoencoder:
    """An autoencoder to evaluate, and how files become its images.

    Args:
        options: what the checkpoint says of the network.
        image_shape: `(C, *S)` of one image.
        image_options: how a file becomes an image.

    Attributes:
        network: in evaluation mode, its weights without gradients.
        digest: what tells this autoencoder's numbers from another's: of the checkpoint's file.

    Raises:
        UserError: a side that the network's levels cannot halve.
    """

    def __init__(
        self,
        options: AutoencoderOptions,
        image_shape: tuple[int, ...],
        image_options: ImageOptions | None = None,
    ) -> None:
        self.options = options
        self.image_shape = image_shape
        self.image_options = image_options or ImageOptions(
            is_grayscale=image_shape[0] == 1, spatial_dimension=len(image_shape) - 1
        )
        self.digest = ""
        network = build_autoencoder(options, image_shape)
        self.network: AutoencoderNetwork = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path) -> Autoencoder:
        """The autoencoder of a checkpoint of `train_vqvae.py`.

        Raises:
            UserError: no such checkpoint is there.
        """
        path = Path(path)
        try:
            return cls.of_content(load_checkpoint(path, KIND), path)
        except AncestorCheckpoint:
            raise UserError(
                f"{path}: found a checkpoint of the original ddpm-ood, which does not say what its "
                f"images are, expected {KIND}"
            ) from None

    @classmethod
    def of_content(cls, content: dict[str, Any], path: Path) -> Autoencoder:
        """The autoencoder of what a checkpoint, or `content`, holds; sentences name the path.

        Raises:
            UserError: something that it lacks, or that this version does not know.
        """
        options = stored_options(AutoencoderOptions, content, path)
        image_options = stored_options(ImageOptions, content, path)
        try:
            autoencoder = cls(options, stored_shape(content, path), image_options)
        except UserError as error:  # a size that this version does not know, say
            raise UserError(f"{path}: {error}") from None
        whose = f"a {options.model_type} autoencoder on images of {autoencoder.image_shape}"
        wrong = f"{path}: found weights that are not those of {whose}"
        load_weights(autoencoder.network, stored_entry("weights", content, path), wrong)
        autoencoder.digest = stored_entry("digest", content, path)
        return autoencoder

    def content(self) -> dict[str, Any]:
        """What `of_content` reads: tensors and plain values."""
        options = (self.image_options, self.options)
        return {
            "options": {type(group).__name__: to_dict(group) for group in options},
            "image_shape": self.image_shape,
            "weights": self.network.state_dict(),
            "digest": self.digest,
        }

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """`(c, *s)` of one image's latents."""
        return self.network.latent_shape

    @torch.no_grad()
    def encode(self, images: Tensor, quantised: bool = True) -> Tensor:
        """Latents `(B, c, *s)` of images `(B, C, *S)` in [0, 1].

        Those of a VQ-VAE are the nearest codes if they are `quantised`; those of an AutoencoderKL
        are the means.
        """
        return self.network.encode(images, quantised=quantised)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Images `(B, C, *S)` of latents, which may lie outside [0, 1].

        A VQ-VAE decodes each latent's nearest code, so that codes and encodings decode alike.
        """
        return self.network.decode(z)
