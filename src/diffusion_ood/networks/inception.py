"""The Inception network whose features the FID is defined by (Heusel et al. 2017).

Its weights come as one file: those of pytorch-fid, which are the paper's own, or torchvision's,
whose distances are not those that others report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_fid import inception as fid
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import Inception3

from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import sha256

FID_FILE, TORCHVISION_FILE = (
    "pt_inception-2015-12-05-6726825d.pth",
    "inception_v3_google-0cc3c7bd.pth",
)
FID_DIGEST = "6726825d"  # the first digits of the SHA-256 of the paper's own weights
FID_CLASSES = 1008  # of TensorFlow's network; torchvision's has 1000
SIDE = 299


class InceptionFeatures(nn.Module):
    """2048 features: the last pooling of Inception v3.

    Args:
        path: the file of weights, of either kind.

    Attributes:
        name: `FID` with the paper's own weights alone.
        digest: SHA-256 of the file.

    Raises:
        UserError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
            classes = len(weights["fc.bias"])
            network = _network(classes)
            weights = {k: v for k, v in weights.items() if not k.startswith("AuxLogits.")}
            network.load_state_dict(weights)
        except Exception as error:  # whatever torch.load meets in a file that is something else
            reason = str(error).split("\n")[0]
            raise UserError(f"{path}: expected weights of Inception v3; {reason}") from error
        network.fc = nn.Identity()
        self.network = network.eval()
        self.digest = sha256(path)
        own = self.digest.startswith(FID_DIGEST)
        self.name = "FID" if own else f"Fréchet distance of the Inception features of {path.name}"

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, 2048)` of images `(B, 1 or 3, H, W)` in [0, 1]."""
        large = functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear")
        return self.network(2 * large.expand(-1, 3, -1, -1) - 1)


def find_inception(path: Path | None = None) -> Path:
    """The file of weights: `path`, or one of either kind in torch's cache.

    Raises:
        UserError: there is none.
    """
    if path is not None:
        if not path.is_file():
            raise UserError(f"`inception_weights`: {path}: no such file")
        return path
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for name in (FID_FILE, TORCHVISION_FILE):
        if (cache / name).is_file():
            return cache / name
    raise UserError(
        f"`features` inception: found neither {FID_FILE} of pytorch-fid nor torchvision's "
        f"{TORCHVISION_FILE} in {cache}; put one there, or say where it is with `inception_weights`"
    )


def _network(classes: int) -> Any:  # noqa: ANN401 - the blocks are assigned to a typed class
    """Inception v3 as torchvision builds it, or, with the FID's classes, with the FID's pooling."""
    network: Any = Inception3(num_classes=classes, aux_logits=False, init_weights=False)
    if classes == FID_CLASSES:
        network.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = fid.FIDInceptionE_1(1280)
        network.Mixed_7c = fid.FIDInceptionE_2(2048)
    return network
