"""Autoencoders of images and volumes in their sizes: MONAI's VQVAE and AutoencoderKL."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import VQVAE, AutoencoderKL
from diffusion_ood.networks.codebook import nearest_codes, quantised_step
from diffusion_ood.options import AutoencoderOptions
from diffusion_ood.registries import AUTOENCODERS
from diffusion_ood.runtime.words import counted

COMMITMENT_COST, EPSILON = 0.25, 1e-5
KL_WEIGHT = 1e-6  # of the sum over an image's latents (Rombach et al. 2022)


class AutoencoderNetwork(nn.Module, ABC):
    """Images `(B, C, *S)` to latents `(B, c, *s)` and back; its weights have MONAI's names.

    Attributes:
        latent_shape: `(c, *s)` of the images that it was built for.
    """

    latent_shape: tuple[int, ...]
    decoder: nn.Module

    @abstractmethod
    def encode(self, images: Tensor, *, quantised: bool = True) -> Tensor:
        """Latents of images in [0, 1]; those of a VQ-VAE are codes if they are `quantised`."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images of latents, not clamped; a VQ-VAE takes each latent's nearest code."""

    @abstractmethod
    def draw(self, n: int, shard: slice, generator: torch.Generator) -> Tensor:
        """What is random in a training step on n images, of which the shard is this process's."""

    @abstractmethod
    def forward(self, images: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """A training step's reconstructions `(B, C, *S)` and the latents' losses (B,).

        Args:
            images: this process's shard of the step's images, in [0, 1].
            drawn: what `draw` gave for the step.
        """


class VectorQuantised(AutoencoderNetwork):
    """A VQ-VAE (van den Oord et al. 2017) whose codes are running means of their encodings."""

    def __init__(self, parts: Any) -> None:  # noqa: ANN401 - MONAI's
        super().__init__()
        self.encoder, self.decoder, self.quantizer = parts.encoder, parts.decoder, parts.quantizer

    @property
    def codebook(self) -> Any:  # noqa: ANN401 - MONAI's
        """MONAI's `EMAQuantizer`."""
        return self.quantizer.quantizer

    def encode(self, images: Tensor, *, quantised: bool = True) -> Tensor:
        """Latents of images in [0, 1], the nearest codes if they are `quantised`."""
        z: Tensor = self.encoder(images)
        return nearest_codes(self.codebook, z) if quantised else z

    def decode(self, z: Tensor) -> Tensor:
        """Images of the latents' nearest codes."""
        images: Tensor = self.decoder(nearest_codes(self.codebook, z))
        return images

    def draw(self, n: int, shard: slice, generator: torch.Generator) -> Tensor:
        """For each code the number of an encoding, different ones as long as there are enough."""
        codes: int = self.codebook.num_embeddings
        order = torch.randperm(n * math.prod(self.latent_shape[1:]), generator=generator)
        return order.repeat(-(-codes // len(order)))[:codes]

    def forward(self, images: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions and commitment losses; the codebook takes its step."""
        codes, losses = quantised_step(self.codebook, self.encoder(images), drawn)
        return self.decoder(codes), losses


class Variational(AutoencoderNetwork):
    """An autoencoder with normal latents of small divergence from N(0, 1) (Rombach et al. 2022)."""

    def __init__(self, parts: Any) -> None:  # noqa: ANN401 - MONAI's
        super().__init__()
        self.encoder, self.decoder = parts.encoder, parts.decoder
        self.quant_conv_mu, self.post_quant_conv = parts.quant_conv_mu, parts.post_quant_conv
        self.quant_conv_log_sigma = parts.quant_conv_log_sigma

    def encode(self, images: Tensor, *, quantised: bool = True) -> Tensor:
        """The latents' means; there are no codes to choose from."""
        z: Tensor = self.quant_conv_mu(self.encoder(images))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents."""
        images: Tensor = self.decoder(self.post_quant_conv(z))
        return images

    def draw(self, n: int, shard: slice, generator: torch.Generator) -> Tensor:
        """Normal noise of the shard, `(b, c, *s)`."""
        return torch.randn((n, *self.latent_shape), generator=generator)[shard]

    def forward(self, images: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions of random latents, and their weighted divergences from N(0, 1)."""
        hidden = self.encoder(images)
        mean = self.quant_conv_mu(hidden).float()
        log_variance = self.quant_conv_log_sigma(hidden).float().clamp(-30, 20)
        reconstructions = self.decode(mean + (log_variance / 2).exp() * drawn)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
        return reconstructions, KL_WEIGHT * divergence.flatten(1).sum(1)


@dataclass(frozen=True)
class VQSize:
    """One size of the VQ-VAE: channels a level, residual units a level, and its codes."""

    channels: tuple[int, ...]
    num_res_layers: int
    embedding_dim: int
    num_embeddings: int
    decay: float = 0.99

    def stride(self, options: AutoencoderOptions) -> int:
        """Every image side must be a multiple of this."""
        return math.prod(group[0] for group in self._arguments(options)["downsample_parameters"])

    def build(self, options: AutoencoderOptions, image_shape: tuple[int, ...]) -> VectorQuantised:
        """The network with fresh weights.

        Raises:
            UserError: lists of other lengths than the levels are.
        """
        channels, *sides = image_shape
        arguments = self._arguments(options)
        return VectorQuantised(VQVAE(len(sides), channels, channels, **arguments))

    def _arguments(self, options: AutoencoderOptions) -> dict[str, Any]:
        """MONAI's arguments: the options where they are given, else this size."""
        channels = options.vqvae_num_channels or self.channels
        res_channels = options.vqvae_num_res_channels or channels
        down = options.vqvae_downsample_parameters or (2, 4, 1, 1)
        up = options.vqvae_upsample_parameters or (2, 4, 1, 1, 0)
        n = len(channels)
        return {
            "channels": [c for (c,) in _levels("vqvae_num_channels", channels, 1, n)],
            "num_res_channels": [
                c for (c,) in _levels("vqvae_num_res_channels", res_channels, 1, n)
            ],
            "downsample_parameters": _levels("vqvae_downsample_parameters", down, 4, n),
            "upsample_parameters": _levels("vqvae_upsample_parameters", up, 5, n),
            "num_res_layers": _given(options.vqvae_num_res_layers, self.num_res_layers),
            "embedding_dim": _given(options.vqvae_embedding_dim, self.embedding_dim),
            "num_embeddings": _given(options.vqvae_num_embeddings, self.num_embeddings),
            "decay": _given(options.vqvae_decay, self.decay),
            "commitment_cost": _given(options.vqvae_commitment_cost, COMMITMENT_COST),
            "epsilon": _given(options.vqvae_epsilon, EPSILON),
            "dropout": _given(options.vqvae_dropout, 0.0),
        }


@dataclass(frozen=True)
class KLSize:
    """One size of the AutoencoderKL, without attention: a volume has too many places for it."""

    channels: tuple[int, ...]
    num_res_blocks: int
    latent_channels: int
    norm_num_groups: int

    def stride(self, options: AutoencoderOptions) -> int:
        """Every image side must be a multiple of this."""
        return int(2 ** (len(self.channels) - 1))

    def build(self, options: AutoencoderOptions, image_shape: tuple[int, ...]) -> Variational:
        """The network with fresh weights."""
        channels, *sides = image_shape
        network = AutoencoderKL(
            len(sides),
            channels,
            channels,
            num_res_blocks=self.num_res_blocks,
            channels=self.channels,
            attention_levels=[False] * len(self.channels),
            latent_channels=self.latent_channels,
            norm_num_groups=self.norm_num_groups,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        return Variational(network)


# original has the defaults of the original ddpm-ood, paper its README's of Graham et al. (2023b).
VQ_TINY = VQSize((16, 32, 64), 1, 8, 256)
VQ_SMALL = VQSize((32, 64, 128), 2, 16, 512)
VQ_ORIGINAL = VQSize((128, 128, 128, 256), 3, 256, 256)
VQ_PAPER = VQSize((256, 256, 256, 256), 3, 128, 2048, decay=0.9)
KL_TINY = KLSize((16, 32, 64, 64), 1, 8, 16)
KL_SMALL = KLSize((32, 64, 128, 128), 2, 16, 32)


def build_autoencoder(
    options: AutoencoderOptions, image_shape: tuple[int, ...]
) -> AutoencoderNetwork:
    """The network that the options name, with fresh weights, for images `(C, *S)`.

    Raises:
        UserError: a side that its levels cannot halve, or levels that do not give it back.
    """
    size: VQSize | KLSize = AUTOENCODERS[options.model_type]
    sides, stride = image_shape[1:], size.stride(options)
    if wrong := [side for side in sides if side % stride]:
        below = wrong[0] // stride * stride
        near = " or ".join(str(side) for side in (below, below + stride) if side)
        raise UserError(
            f"`model_type` {options.model_type}: found images of {' × '.join(map(str, sides))} "
            f"pixels, expected sides that are multiples of {stride}, such as {near}; give "
            "`image_size` or `image_roi`"
        )
    network = size.build(options, image_shape)
    network.latent_shape = _latent_shape(size, options, image_shape)
    return network


def _latent_shape(
    size: VQSize | KLSize, options: AutoencoderOptions, image_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """By a network that computes nothing but shapes."""
    try:
        with torch.device("meta"):
            outline = size.build(options, image_shape)
            z = outline.encode(torch.empty(1, *image_shape), quantised=False)
            found = outline.decoder(z).shape[1:]
    except RuntimeError as error:  # a kernel that is larger than the image, say
        reason = str(error).split("\n")[0]
        raise UserError(f"`model_type` {options.model_type}: {reason}") from None
    if found != image_shape:
        raise UserError(
            f"`vqvae_upsample_parameters`: found levels that make {tuple(found)} of images "
            f"{image_shape}, expected the images' own shape"
        )
    return tuple(z.shape[1:])


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _levels(name: str, values: Sequence[int], group: int, levels: int) -> list[tuple[int, ...]]:
    """An option's numbers, a group for each level; one group is that of all levels."""
    groups = [tuple(values[i : i + group]) for i in range(0, len(values), group)]
    groups *= levels if len(groups) == 1 else 1
    least = (1, 1, 1, 0, 0)  # stride, kernel, dilation, paddings
    fits = len(groups) == levels and all(
        len(part) == group and all(map(operator.ge, part, least)) for part in groups
    )
    if not fits:
        raise UserError(
            f"`{name}`: found {tuple(values)}, expected {counted(group, 'number')} for each of "
            f"{counted(levels, 'level')}, none below {least[:group]}"
        )
    return groups
