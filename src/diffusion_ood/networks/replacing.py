"""Modules of a network built elsewhere, replaced by forms of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def replace_modules(network: nn.Module, kind: type[Kind], own: Callable[[Kind], nn.Module]) -> None:
    """Replace every module of a kind below a network, in place; weights come fresh from `own`."""
    for name, child in network.named_children():
        if isinstance(child, kind):
            setattr(network, name, own(child))
        else:
            replace_modules(child, kind, own)


def mixed_in(own: type[nn.Module], kinds: Iterable[type[nn.Module]]) -> dict[type, type[nn.Module]]:
    """For each kind of module one with `own` mixed in, which an object of the kind can become."""
    return {kind: type(own.__name__ + kind.__name__, (own, kind), {}) for kind in kinds}
