"""The whole diffusion model: network, schedule, codec, and how it sees image files."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from torch import Tensor, nn

from diffusion_ood.diffusion.codec import Codec, PixelCodec
from diffusion_ood.diffusion.denoiser import NetworkDenoiser
from diffusion_ood.diffusion.schedule import NoiseSchedule, build_schedule
from diffusion_ood.networks.backend import BACKEND
from diffusion_ood.networks.unet import activation_values, build_unet, load_weights
from diffusion_ood.options import DiffusionOptions, ImageOptions
from diffusion_ood.options.stored import stored_options, to_dict
from diffusion_ood.runtime.checkpoint import load_checkpoint, save_checkpoint
from diffusion_ood.version import __version__


class Diffusion:
    """A network in its noise schedule, the codec before it, and how files become its images.

    With K classes the network knows K + 1 labels: `null_label` = K means any class.

    Args:
        options: what the checkpoint says of the model.
        image_shape: `(C, *S)` of one image.
        image_options: how a file becomes an image.
        classes: the names of the classes, of a model that was trained with them.

    Attributes:
        digest: what tells this model's numbers from another's: of the checkpoint that was read.
        epoch: after which it was saved, if it comes from a checkpoint.

    Raises:
        UserError: a side that the network cannot halve.
    """

    def __init__(
        self,
        options: DiffusionOptions,
        image_shape: tuple[int, ...],
        image_options: ImageOptions | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.options = options
        self.image_shape = image_shape
        self.image_options = image_options or ImageOptions(is_grayscale=image_shape[0] == 1)
        self.classes = tuple(classes)
        self.digest = ""
        self.epoch: int | None = None
        self.null_label = options.num_classes or None
        num_labels = options.num_classes + 1 if options.num_classes else None
        self.network: nn.Module = build_unet(options.model_type, image_shape, num_labels)
        self.codec: Codec = PixelCodec(options.data_range, options.b_scale)
        self.schedule: NoiseSchedule = build_schedule(
            options.beta_schedule, options.beta_start, options.beta_end, options.snr_shift
        )

    @classmethod
    def load(cls, path: str | Path) -> Diffusion:
        """The model of a checkpoint of `train_ddpm.py` or of `save`, with the weights to evaluate.

        Raises:
            UserError: no such checkpoint is there.
        """
        path = Path(path)
        content = load_checkpoint(path)
        model = cls(
            stored_options(DiffusionOptions, content, path),
            tuple(content["image_shape"]),
            stored_options(ImageOptions, content, path),
            content.get("classes", ()),
        )
        load_weights(model.network, content["weights"])
        model.network.eval()
        model.digest, model.epoch = content["digest"], content.get("epoch")
        return model

    def save(self, path: str | Path) -> None:
        """Write the model alone, without what going on with its training needs, for `load`."""
        options = (self.image_options, self.options)
        content = {
            "options": {type(group).__name__: to_dict(group) for group in options},
            "image_shape": self.image_shape,
            "classes": self.classes,
            "weights": self.network.state_dict(),
            "epoch": self.epoch,
            "versions": versions(),
        }
        save_checkpoint(Path(path), content)

    @property
    def activation_values(self) -> int:
        """Numbers in the network's activation of one image at its full size."""
        return activation_values(self.options.model_type, self.image_shape)

    def denoiser(self, network: Callable[..., Tensor] | None = None) -> NetworkDenoiser:
        """ε̂ by `network`: the model's own, or the same compiled or wrapped."""
        return NetworkDenoiser(
            self.network if network is None else network,  # a compiled one has no truth value
            self.schedule,
            self.options.prediction_type,
            self.null_label,
        )


def versions() -> dict[str, str]:
    """What the numbers of a run depend on beside its options."""
    return {
        "diffusion_ood": __version__,
        "torch": version("torch"),
        "monai": version("monai"),
        "networks": BACKEND,
        "python": platform.python_version(),
    }
