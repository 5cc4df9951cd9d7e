"""What is kept of a network's blocks."""

import torch
from torch import Tensor, nn

from diffusion_ood.networks.observed import Observed


class Halved(nn.Module):
    """A network with one block, which halves the sides."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.AvgPool3d(2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The image itself."""
        self.block(x)
        return x


def test_a_block_of_one_place_deviates_by_nothing() -> None:
    network = Observed(Halved(), ("block",))
    for side in (2, 4):
        x = torch.rand(3, 5, side, side, side)
        _, found = network.split(network(x, torch.zeros(3)), x[0].shape)
        places = nn.functional.avg_pool3d(x, 2).flatten(2)
        expected = places.std(2) if side == 4 else torch.zeros(3, 5)
        torch.testing.assert_close(found["block"][..., -1], expected)
