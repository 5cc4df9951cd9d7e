"""Methods by their names."""

from __future__ import annotations

from dataclasses import replace

from diffusion_ood.errors import UserError
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.joined import joined
from diffusion_ood.model import Diffusion
from diffusion_ood.options import ReconstructOptions
from diffusion_ood.options.reconstruction import JOINED, SCORES_OF_IMAGES, SCORES_OF_LATENTS
from diffusion_ood.registries import METHODS, SCORES


def for_model(options: ReconstructOptions, diffusion: Diffusion) -> ReconstructOptions:
    """The options with the scores that they leave to the model.

    Those of latents spare all decoding; `reconstruction` is that of Graham et al., of images.

    Raises:
        UserError: scores of latents, and a model without.
    """
    if wrong := [
        s for s in options.scores if SCORES[s].form != "image" and not diffusion.is_latent
    ]:
        raise UserError(
            f"`scores` {wrong[0]}: found a model of images, expected one of latents, trained with "
            "`vqvae_checkpoint`"
        )
    images = not diffusion.is_latent or "reconstruction" in options.methods
    default = SCORES_OF_IMAGES if images else SCORES_OF_LATENTS
    return replace(options, scores=options.scores or default)


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
