"""Weights of a checkpoint, under whatever names they were saved."""

from __future__ import annotations

from torch import nn

from diffusion_ood.errors import UserError
from diffusion_ood.networks.backend import own_names

PREFIXES = ("module.", "_orig_mod.", "module.")  # in either order


def load_weights(network: nn.Module, weights: object, wrong: str = "found other weights") -> None:
    """Load weights that were saved under either of the packages that MONAI's networks come from.

    Or from a network that was wrapped, compiled or replicated, whose names begin with `PREFIXES`.

    Args:
        network: that takes them.
        weights: tensors by their names.
        wrong: what is said, before the reason, where they are not the network's.

    Raises:
        UserError: they are not.
    """
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{wrong}; expected tensors by their names")
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): w for name, w in weights.items()}
    own = weights.keys() == network.state_dict().keys()
    try:
        network.load_state_dict(weights if own else own_names(weights))
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).split("\n")[1:2] or [str(error)]
        raise UserError(f"{wrong}; {reason[0].strip()[:200]}") from None
