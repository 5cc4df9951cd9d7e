"""The whole diffusion model as options describe it: network, schedule and range of the images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from diffusion_ood.diffusion.clipping import ClippedDenoiser
from diffusion_ood.diffusion.denoiser import Denoiser, NetworkDenoiser
from diffusion_ood.diffusion.guidance import GuidedDenoiser
from diffusion_ood.diffusion.schedule import NoiseSchedule, build_schedule
from diffusion_ood.networks.unet import activation_values, build_unet
from diffusion_ood.options import DiffusionOptions


class DiffusionModel:
    """A network in its noise schedule, and the range that it sees images in.

    With K classes the network knows K + 1 labels: `null_label` = K means any class.

    Args:
        options: what the checkpoint says of the model.
        image_shape: `(C, *S)` of one image.

    Raises:
        UserError: a side that the network cannot halve.
    """

    def __init__(self, options: DiffusionOptions, image_shape: tuple[int, ...]) -> None:
        self.options = options
        self.image_shape = image_shape
        self.null_label = options.num_classes or None
        num_labels = options.num_classes + 1 if options.num_classes else None
        self.network: nn.Module = build_unet(options.model_type, image_shape, num_labels)
        self.schedule: NoiseSchedule = build_schedule(
            options.beta_schedule, options.beta_start, options.beta_end, options.snr_shift
        )

    @property
    def activation_values(self) -> int:
        """Numbers in the network's activation of one image at its full size."""
        return activation_values(self.options.model_type, self.image_shape)

    def denoiser(self, network: Callable[..., Tensor]) -> NetworkDenoiser:
        """ε̂ by `network`: the model's own, compiled or wrapped."""
        return NetworkDenoiser(
            network, self.schedule, self.options.prediction_type, self.null_label
        )

    def guided(self, network: Callable[..., Tensor], beta: float) -> Denoiser:
        """ε̂ under guidance of strength β, where there are classes to be guided to."""
        if self.null_label is None:
            return self.denoiser(network)
        return GuidedDenoiser(self.denoiser(network), beta, self.null_label)

    def clipped(self, denoiser: Denoiser) -> Denoiser:
        """ε̂ of predictions x̂_0 that stay in the range of images."""
        low = -self.options.b_scale if self.options.data_range == "pm1" else 0.0
        return ClippedDenoiser(denoiser, self.schedule, low, self.options.b_scale)

    def to_model(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to the model's range: [0, b_scale], or [−b_scale, b_scale]."""
        if self.options.data_range == "pm1":
            images = 2 * images - 1
        return images * self.options.b_scale

    def from_model(self, x: Tensor) -> Tensor:
        """The model's range to images, clamped to [0, 1]."""
        images = x / self.options.b_scale
        if self.options.data_range == "pm1":
            images = (images + 1) / 2
        return images.clamp(0, 1)
