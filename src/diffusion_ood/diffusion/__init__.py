"""Diffusion: three nouns, and nothing that loads, scores or trains.

The schedule gives ᾱ_t, the share of the signal's variance that is left at time t, so that a noisy
image is `x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε` (Ho et al. 2020, equation 4). The denoiser joins a
network and a schedule to `ε̂(x_t, t)` and `x̂_0(x_t, t)`. A sampler goes from `x_t` to `x_s`, s < t,
given a callable for ε̂. Time −1 (`CLEAN`) is the image without noise, ᾱ = 1.
"""
