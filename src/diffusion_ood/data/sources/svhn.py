"""SVHN (Netzer et al. 2011): 99,289 cropped house numbers, colour, 32 x 32 pixels."""

from __future__ import annotations

from torchvision import datasets

from diffusion_ood.data.sources.base import (
    Download,
    ImageArray,
    Part,
    RawFiles,
    Source,
    SplitImages,
)

COUNTS: dict[Part, int] = {"train": 73_257, "test": 26_032}
PUBLISHED = {part: datasets.SVHN.split_list[part] for part in COUNTS}  # URL, name, MD5


def _read(raw: RawFiles, seed: int) -> SplitImages:
    parts = {}
    for part, (_, name, _) in PUBLISHED.items():
        images = datasets.SVHN(raw[name].parent, split=part)
        parts[part] = ImageArray(images.data.transpose(0, 2, 3, 1), list(map(str, images.labels)))
    return parts


SOURCE = Source(
    read=_read,
    counts=COUNTS,
    files={name: md5 for _, name, md5 in PUBLISHED.values()},
    downloads=[Download(name, url, md5) for url, name, md5 in PUBLISHED.values()],
)
