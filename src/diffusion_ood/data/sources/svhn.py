"""SVHN (Netzer et al. 2011): 99,289 cropped house numbers, colour, 32 x 32 pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from diffusion_ood.data.sources.base import (
    Parts,
    Pixels,
    Place,
    RawFiles,
    Source,
    find_files,
)
from diffusion_ood.data.sources.download import download
from diffusion_ood.errors import UserError

URL = "http://ufldl.stanford.edu/housenumbers/"
TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"
MD5 = {TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373", TEST: "eb5a983be6a315427106f1b164d9cef3"}


def read_mat(path: Path) -> Pixels:
    """The images of a MATLAB file (H, W, 3, N); the digit 0, stored as 10, gets the label 0.

    Raises:
        UserError: it is no such file.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path)
        pixels, digits = content["X"].transpose(3, 0, 1, 2), content["y"].ravel() % 10
    except Exception as error:  # a damaged file raises anything
        raise UserError(f"{path}: not a file of SVHN ({error})") from None
    if pixels.dtype != np.uint8 or len(digits) != len(pixels):
        raise UserError(f"{path}: not a file of SVHN ({len(digits)} labels)")
    return Pixels(pixels, [str(digit) for digit in digits])


def _fetch(place: Place) -> RawFiles:
    for name, md5 in MD5.items():
        download(place, URL + name, name, md5, tuple(MD5))
    found = find_files(place, tuple(MD5))
    assert found is not None, "the files have just been downloaded"
    return found


def _read(raw: RawFiles, seed: int) -> Parts:
    return {"train": read_mat(raw[TRAIN]), "test": read_mat(raw[TEST])}


SOURCE = Source(
    find=partial(find_files, names=tuple(MD5)),
    fetch=_fetch,
    read=_read,
    counts={"train": 73_257, "test": 26_032},
    digests=MD5,
)
