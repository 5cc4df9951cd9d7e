"""The whole diffusion model as options describe it: network, schedule and range of the images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from diffusion_ood.diffusion.denoiser import NetworkDenoiser
from diffusion_ood.diffusion.schedule import NoiseSchedule, build_schedule
from diffusion_ood.networks.unet import build_unet
from diffusion_ood.options import DiffusionOptions


class DiffusionModel:
    """A network in its noise schedule, and the range that it sees images in.

    Args:
        options: what the checkpoint says of the model.
        image_shape: `(C, *S)` of one image.

    Raises:
        UserError: a side that the network cannot halve.
    """

    def __init__(self, options: DiffusionOptions, image_shape: tuple[int, ...]) -> None:
        self.options = options
        self.image_shape = image_shape
        self.network: nn.Module = build_unet(options.model_type, image_shape)
        self.schedule: NoiseSchedule = build_schedule(
            options.beta_schedule, options.beta_start, options.beta_end, options.snr_shift
        )

    def denoiser(self, network: Callable[[Tensor, Tensor], Tensor]) -> NetworkDenoiser:
        """ε̂ by `network`: the model's own, compiled or wrapped."""
        return NetworkDenoiser(network, self.schedule, self.options.prediction_type)

    def to_model(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to the model's range, [0, b_scale]."""
        return images * self.options.b_scale

    def from_model(self, x: Tensor) -> Tensor:
        """The model's range to images, clamped to [0, 1]."""
        return (x / self.options.b_scale).clamp(0, 1)
