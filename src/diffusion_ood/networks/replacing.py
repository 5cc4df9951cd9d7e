"""Modules of a network built elsewhere, replaced by forms of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def replace_modules(network: nn.Module, kind: type[Kind], own: Callable[[Kind], nn.Module]) -> None:
    """Replace every module of a kind below a network, in place, by what `own` makes of it."""
    for name, child in network.named_children():
        if isinstance(child, kind):
            setattr(network, name, own(child))
        else:
            replace_modules(child, kind, own)
