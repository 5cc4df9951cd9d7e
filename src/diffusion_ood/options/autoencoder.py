"""Options of autoencoders and of their training; the original's have its names, `vqvae_…`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from diffusion_ood.errors import UserError
from diffusion_ood.options.fields import MAX_FLOAT, OptionGroup, option
from diffusion_ood.options.training import FitOptions
from diffusion_ood.registries import AUTOENCODERS

# Far above what is of use: a network takes memory before anything is computed.
MAX_CHANNELS, MAX_CODES, MAX_LAYERS = 100_000, 10_000_000, 1_000


@dataclass(frozen=True)
class AutoencoderOptions(OptionGroup):
    """The autoencoder: what is stored in its checkpoint and never changes after training."""

    num_classes: ClassVar[int] = 0  # it learns no classes

    model_type: str = option(
        "size of the network; vq_ is a VQ-VAE, kl_ an AutoencoderKL, vq_original has the defaults "
        "of the original ddpm-ood and vq_paper is its README's; the options `vqvae_num_channels` "
        "to `vqvae_dropout` replace what a VQ-VAE's size says",
        "vq_original",
        choices=AUTOENCODERS,
    )
    vqvae_num_channels: tuple[int, ...] | None = option(
        "channels of each level: 128,128,128,256", None
    )
    vqvae_num_res_channels: tuple[int, ...] | None = option(
        "channels inside the residual units of each level; default: `vqvae_num_channels`", None
    )
    vqvae_num_res_layers: int | None = option(
        "residual units a level", None, least=0, most=MAX_LAYERS
    )
    vqvae_downsample_parameters: tuple[int, ...] | None = option(
        "stride, kernel, dilation and padding of the convolution that halves the sides; one group "
        "of four for all levels, or one a level: [[2,4,1,1],[2,4,1,1]]; default: 2,4,1,1",
        None,
    )
    vqvae_upsample_parameters: tuple[int, ...] | None = option(
        "the same and the output padding of the convolution that doubles them, from the lowest "
        "level on; default: 2,4,1,1,0",
        None,
    )
    vqvae_num_embeddings: int | None = option("number of codes", None, least=1, most=MAX_CODES)
    vqvae_embedding_dim: int | None = option(
        "numbers in a code: channels of the latents", None, least=1, most=MAX_CHANNELS
    )
    vqvae_decay: float | None = option(
        "decay of the moving averages that the codes are", None, least=0, below=1
    )
    vqvae_commitment_cost: float | None = option(
        "weight of the encodings' distance from their codes; default: 0.25", None, least=0
    )
    vqvae_epsilon: float | None = option(
        "what smooths the codes' counts (Laplace); default: 1e-5", None, above=0
    )
    vqvae_dropout: float | None = option(
        "dropout in the levels and residual units; default: 0", None, least=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f.name for f in dataclasses.fields(self) if f.name != "model_type"]
        given = [name for name in given if getattr(self, name) is not None]
        if given and not self.model_type.startswith("vq_"):
            raise UserError(
                f"`{given[0]}`: has no effect on `model_type` {self.model_type}, expected one "
                "that begins with vq_"
            )


@dataclass(frozen=True)
class AutoencoderTrainOptions(FitOptions):
    """Training of the autoencoder."""

    batch_size: int = option("images a step, over all processes together", 4, least=1)
    lr: float = option("learning rate of Adam", 3e-4, above=0, most=MAX_FLOAT)
    perceptual_weight: float = option(
        "weight of LPIPS beside the pixels' differences, 0.001 in the original code; of "
        "volumes it is that of a few slices of each direction",
        0.0,
        least=0,
        most=MAX_FLOAT,
    )
    augmentation: bool = option("small random rotations, shifts and zooms (never flips)", False)
    vqvae_learning_rate: float | None = option(
        "another name of `lr`", None, above=0, most=MAX_FLOAT
    )
    vqvae_in_channels: int | None = option("has to be what `is_grayscale` says, 1 or 3", None)
    vqvae_out_channels: int | None = option("has to be what `is_grayscale` says, 1 or 3", None)
    vqvae_ddp_sync: bool = option("only 1 is accepted: all processes have the same codes", True)
    adversarial_weight: float = option("not available; only 0 is accepted", 0.0)
    adversarial_warmup: int = option("not available; only 0 is accepted", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.vqvae_ddp_sync:
            raise UserError(
                "`vqvae_ddp_sync`: found 0, expected 1, since processes with codes of their own "
                "would leave a checkpoint with those of the first alone"
            )
        for name in ("adversarial_weight", "adversarial_warmup"):
            if getattr(self, name):
                raise UserError(
                    f"`{name}`: not available, since scores need faithful reconstructions rather "
                    "than sharp ones; leave it out or give 0"
                )
