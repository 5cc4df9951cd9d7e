"""The forms in which scores compare an image with what the model made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from diffusion_ood.diffusion.codec import Codec

Form = Literal["image", "latent", "autoencoded"]
"""The image against the decoded x̂_0; their latents, where nothing is decoded; or the image that the
autoencoder makes of the image, against the decoded x̂_0: without what the autoencoder loses."""


@dataclass(eq=False)
class Forms:
    """Images in every form, each made when it is first asked for.

    Args:
        codec: of the model.
        x: what the model sees of them, or found for them, `(B, c, *s)`.
        images: shape `(B, C, *S)` in [0, 1], where x is of known ones.
    """

    codec: Codec
    x: Tensor
    images: Tensor | None = None

    @cached_property
    def decoded(self) -> Tensor:
        """Images `(B, C, *S)` of x, not clamped."""
        return self.codec.decode(self.x)

    def take(self, form: Form) -> Tensor:
        """Images in [0, 1], `(B, C, *S)`; as `latent`, normalised latents `(B, c, *s)`."""
        if form == "latent":
            return self.codec.latents(self.x)
        if form == "image" and self.images is not None:
            return self.images
        return self.decoded.clamp(0, 1)
