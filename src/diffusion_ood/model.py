"""The whole diffusion model: network, schedule, codec, and how it sees image files."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_ood.autoencoder import Autoencoder
from diffusion_ood.data.contents import content_number
from diffusion_ood.diffusion.codec import Codec, LatentCodec, PixelCodec
from diffusion_ood.diffusion.denoiser import NetworkDenoiser
from diffusion_ood.diffusion.schedule import NoiseSchedule, build_schedule
from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import BACKEND
from diffusion_ood.networks.unet import activation_values, build_unet, lacking
from diffusion_ood.networks.weights import load_weights
from diffusion_ood.options import DiffusionOptions, ImageOptions
from diffusion_ood.options.stored import (
    stored_classes,
    stored_entry,
    stored_options,
    stored_shape,
    to_dict,
)
from diffusion_ood.runtime.checkpoint import (
    AncestorCheckpoint,
    load_checkpoint,
    save_checkpoint,
)
from diffusion_ood.version import __version__


class Diffusion:
    """A network in its noise schedule, the codec before it, and how files become its images.

    With K classes the network knows K + 1 labels: `null_label` = K means any class.

    Args:
        options: what the checkpoint says of the model.
        image_shape: `(C, *S)` of one image.
        image_options: how a file becomes an image.
        classes: the names of the classes, of a model that was trained with them.
        codec: by default that of pixels which the options describe.

    Attributes:
        x_shape: `(c, *s)` of what the network and the noise see of an image.
        digest: what tells this model's numbers from another's: of the checkpoint that was read.
        epoch: after which it was saved, if it comes from a checkpoint.
        training: what its checkpoint says of the training images: `contents`, numbers of their
            contents, int64 (N,), and `intensity`, see `data.intensity`; empty where it does not.

    Raises:
        UserError: a side that the network cannot halve.
    """

    def __init__(
        self,
        options: DiffusionOptions,
        image_shape: tuple[int, ...],
        image_options: ImageOptions | None = None,
        classes: Sequence[str] = (),
        codec: Codec | None = None,
    ) -> None:
        self.options = options
        self.image_shape = image_shape
        self.codec = codec or PixelCodec(options.data_range, options.b_scale)
        self.x_shape = self.codec.x_shape(image_shape)
        self.image_options = image_options or ImageOptions(is_grayscale=image_shape[0] == 1)
        self.classes = tuple(classes)
        self.digest = ""
        self.epoch: int | None = None
        self.training: dict[str, Any] = {}
        self.null_label = options.num_classes or None
        num_labels = options.num_classes + 1 if options.num_classes else None
        if self.is_latent:
            self._check_pad()
        self.network: nn.Module = build_unet(options.model_type, self.x_shape, num_labels)
        self.schedule: NoiseSchedule = build_schedule(
            options.beta_schedule, options.beta_start, options.beta_end, options.snr_shift
        )

    def _check_pad(self) -> None:
        """Refuse latents that the U-Net cannot halve; the pad begins with the last side."""
        parts = lacking(self.options.model_type, self.x_shape[1:])
        if any(parts):
            more = ",".join(f"{n // 2},{n - n // 2}" for n in reversed(parts))
            raise UserError(
                f"`latent_pad`: found latents of {' × '.join(map(str, self.x_shape[1:]))}, which a "
                f"{self.options.model_type} U-Net cannot halve, expected {more} more"
            )

    @classmethod
    def load(cls, path: str | Path) -> Diffusion:
        """The model of a checkpoint of `train_ddpm.py` or of `save`, with the weights to evaluate.

        Raises:
            UserError: no such checkpoint is there.
        """
        path = Path(path)
        return cls.of_content(load_checkpoint(path), path)

    @classmethod
    def of_content(cls, content: dict[str, Any], path: Path) -> Diffusion:
        """The model of what a checkpoint holds; sentences about it name the path.

        Raises:
            UserError: something that it lacks, or that this version does not know.
        """
        options = stored_options(DiffusionOptions, content, path)
        image_options = stored_options(ImageOptions, content, path)
        shape, classes = stored_shape(content, path), stored_classes(content, path)
        codec = _stored_codec(content, options, shape, path)
        try:
            model = cls(options, shape, image_options, classes, codec)
        except UserError as error:  # a size that this version does not know, say
            raise UserError(f"{path}: {error}") from None
        model._take_weights(stored_entry("weights", content, path), path)
        model.digest, model.epoch = content["digest"], content.get("epoch")
        model.training = _training(content, path)
        return model

    @classmethod
    def of_ancestor(
        cls,
        found: AncestorCheckpoint,
        options: DiffusionOptions,
        image_shape: tuple[int, ...],
        image_options: ImageOptions,
    ) -> Diffusion:
        """The model of a checkpoint of the original ddpm-ood, which says nothing but its weights.

        Raises:
            UserError: weights of another size than the options say.
        """
        model = cls(options, image_shape, image_options)
        model._take_weights(found.content["model_state_dict"], found.path)
        model.digest, model.epoch = found.content["digest"], found.content.get("epoch")
        return model

    def _take_weights(self, weights: object, path: Path) -> None:
        whose = f"a {self.options.model_type} U-Net on images of {self.image_shape}"
        load_weights(self.network, weights, f"{path}: found weights that are not those of {whose}")
        self.network.eval()

    def save(self, path: str | Path) -> None:
        """Write the model alone, without what going on with its training needs, for `load`."""
        save_checkpoint(Path(path), self.content())

    def content(self) -> dict[str, Any]:
        """What `save` writes: tensors and plain values."""
        options = (self.image_options, self.options)
        codec = self.codec.content()
        return {
            "options": {type(group).__name__: to_dict(group) for group in options},
            **({} if codec is None else {"codec": codec}),
            "image_shape": self.image_shape,
            "classes": self.classes,
            "weights": self.network.state_dict(),
            "epoch": self.epoch,
            "training": self.training,
            "versions": versions(),
        }

    def trained_on(self, digests: Sequence[str]) -> int:
        """How many of these file contents it was trained on, as far as its checkpoint says so."""
        if "contents" not in self.training:
            return 0
        numbers = torch.tensor([content_number(digest) for digest in digests], dtype=torch.int64)
        return int(torch.isin(numbers, self.training["contents"]).sum())

    @property
    def activation_values(self) -> int:
        """Numbers in the network's activation of one image at its full size."""
        return activation_values(self.options.model_type, self.x_shape)

    @property
    def is_latent(self) -> bool:
        """Whether it diffuses an autoencoder's latents."""
        return isinstance(self.codec, LatentCodec)

    def denoiser(self, network: Callable[..., Tensor] | None = None) -> NetworkDenoiser:
        """ε̂ by `network`: the model's own, or the same compiled or wrapped."""
        return NetworkDenoiser(
            self.network if network is None else network,  # a compiled one has no truth value
            self.schedule,
            self.options.prediction_type,
            self.null_label,
        )


def latent_options(options: DiffusionOptions) -> dict[str, Any]:
    """What a `LatentCodec` takes of the options."""
    quantised = options.latent == "quantised"
    return {"quantised": quantised, "pad": options.latent_pad, "b_scale": options.b_scale}


def _stored_codec(
    content: dict[str, Any], options: DiffusionOptions, shape: tuple[int, ...], path: Path
) -> Codec | None:
    """The codec that a checkpoint holds; None of one of pixels."""
    stored = content.get("codec")
    if stored is None:
        return None
    try:
        autoencoder = Autoencoder.of_content(stored["autoencoder"], path)
        if autoencoder.image_shape != shape:
            raise ValueError(f"found an autoencoder of images of {autoencoder.image_shape}")
        return LatentCodec.of_content(autoencoder, stored, **latent_options(options))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: found a codec that is not one of train_ddpm.py ({error})"
        ) from error


def _training(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a checkpoint says of its training images, empty where it does not."""
    found = content.get("training")
    found = {} if found is None else found
    if not isinstance(found, dict) or not isinstance(found.get("contents", torch.empty(0)), Tensor):
        raise UserError(f"{path}: found a checkpoint whose training is not that of train_ddpm.py")
    return found


def versions() -> dict[str, str]:
    """What the numbers of a run depend on beside its options."""
    return {
        "diffusion_ood": __version__,
        "torch": version("torch"),
        "monai": version("monai"),
        "networks": BACKEND,
        "python": platform.python_version(),
    }
