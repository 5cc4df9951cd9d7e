"""Squared errors that the autoencoder of a latent model has no part in."""

from __future__ import annotations

from diffusion_ood.methods.scores.mse import MeanSquaredError


class LatentError(MeanSquaredError):
    """Mean of (z − ẑ)², z normalised latents of the image: nothing is decoded."""

    name = "mse_latent"
    form = "latent"


class AutoencodedError(MeanSquaredError):
    """Mean of (D(E(y)) − D(ẑ))² in [0, 1], which is 0 of whatever the autoencoder loses."""

    name = "mse_autoencoded"
    form = "autoencoded"
