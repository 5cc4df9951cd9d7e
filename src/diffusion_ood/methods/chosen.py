"""Methods by their names."""

from __future__ import annotations

from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.joined import joined
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import JOINED
from diffusion_ood.registries import METHODS


def chosen_methods(options: ReconstructOptions) -> list[Method]:
    """The methods that are asked for, each once; `joined` stands for several.

    Raises:
        UserError: as `Method.from_options`, or a method that calls itself otherwise.
    """
    methods: list[Method] = []
    for name in dict.fromkeys(options.methods):
        if name == JOINED:
            methods += joined(options)
            continue
        methods.append(METHODS[name].from_options(options))
        if methods[-1].name != name:  # or its tables would be taken for another's
            found = methods[-1].name
            raise UserError(f"`methods` {name}: found the name {found}, expected {name}")
    return methods
