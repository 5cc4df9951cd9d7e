"""Networks that a Fréchet distance takes the features of images from."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from pytorch_fid import inception
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import alexnet
from torchvision.transforms.functional import normalize

from diffusion_ood.errors import UserError
from diffusion_ood.networks.alexnet import cached
from diffusion_ood.runtime.files import sha256

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"  # its SHA-256 begins as its name ends
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet
MIN_SIDE = 64  # smaller images are enlarged, so that AlexNet's last layer has something to average


class InceptionFeatures(nn.Module):
    """2048 features: the last pooling of pytorch-fid's Inception v3 (Heusel et al. 2017).

    Its weights are in the file, by default the one in torch's cache.

    Raises:
        UserError: no file of these weights is there.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        path = path or cached(INCEPTION_FILE)
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            # pytorch-fid's constructor knows no file: it asks this function, which would download.
            with mock.patch.object(inception, "load_state_dict_from_url", return_value=weights):
                self.network = inception.InceptionV3().eval()
        except Exception as error:  # whatever torch.load meets in a file that is something else
            reason = str(error).split("\n")[0]
            raise UserError(
                f"`inception_weights`: {path}: expected {INCEPTION_FILE} of pytorch-fid; {reason}"
            ) from error
        self.digest = sha256(path)

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, 2048)` of images `(B, 1 or 3, H, W)` in [0, 1]."""
        return self.network(images.expand(-1, 3, -1, -1))[0].flatten(1)


class AlexNetFeatures(nn.Module):
    """256 features: the last convolution of torchvision's AlexNet, averaged over the image.

    Its weights are those of `networks.alexnet`.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        network = alexnet()
        network.load_state_dict(weights, strict=False)
        self.network = network.features[:-1].eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, 256)` of images `(B, 1 or 3, H, W)` in [0, 1]."""
        if min(images.shape[2:]) < MIN_SIDE:
            scale = MIN_SIDE / min(images.shape[2:])
            images = functional.interpolate(images, scale_factor=scale, mode="bilinear")
        return self.network(normalize(images.expand(-1, 3, -1, -1), MEAN, STD)).mean((2, 3))
