"""Places365 (Zhou et al. 2017): the 36,500 validation photographs of scenes; a test set alone."""

from __future__ import annotations

from diffusion_ood.data.sources.photographs import photograph_source

SOURCE = photograph_source(
    url="http://data.csail.mit.edu/places/places365/val_256.tar",
    md5="e27b17d8d44f4af9a78502beb927f808",
    folder="val_256",
    pattern="*.jpg",
    count=36_500,
)
