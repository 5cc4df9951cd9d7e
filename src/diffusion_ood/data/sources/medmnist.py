"""MedMNIST (Yang et al. 2023; CC BY 4.0, DermaMNIST CC BY-NC 4.0): 18 sets, each in several sizes.

`pathmnist` has 28 x 28 pixels, `pathmnist_64` 64 x 64 and so on; `organmnist3d` has 28 x 28 x 28.
A set is one `.npz` file with `train_images`, `train_labels` and so on, whose parts are kept. The
counts, URLs and MD5 are those of the package medmnist 3.0.2.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from diffusion_ood.data.formats.npy import HEADERS
from diffusion_ood.data.sources.base import (
    PARTS,
    Download,
    ImageArray,
    RawFiles,
    Source,
    SplitImages,
)
from diffusion_ood.errors import UserError

URL = "https://zenodo.org/records/10519652/files/{}?download=1"
COLOUR = ("pathmnist", "dermamnist", "retinamnist", "bloodmnist")
VOLUMES = "3d"  # what the names of such sets end with
COUNTS = {
    "pathmnist": (89_996, 10_004, 7_180),
    "chestmnist": (78_468, 11_219, 22_433),
    "dermamnist": (7_007, 1_003, 2_005),
    "octmnist": (97_477, 10_832, 1_000),
    "pneumoniamnist": (4_708, 524, 624),
    "retinamnist": (1_080, 120, 400),
    "breastmnist": (546, 78, 156),
    "bloodmnist": (11_959, 1_712, 3_421),
    "tissuemnist": (165_466, 23_640, 47_280),
    "organamnist": (34_561, 6_491, 17_778),
    "organcmnist": (12_975, 2_392, 8_216),
    "organsmnist": (13_932, 2_452, 8_827),
    "organmnist3d": (971, 161, 610),
    "nodulemnist3d": (1_158, 165, 310),
    "adrenalmnist3d": (1_188, 98, 298),
    "fracturemnist3d": (1_027, 103, 240),
    "vesselmnist3d": (1_335, 191, 382),
    "synapsemnist3d": (1_230, 177, 352),
}
"""The images of each set in each of `PARTS`."""

MD5 = {
    "pathmnist": "a8b06965200029087d5bd730944a56c1",
    "pathmnist_64": "55aa9c1e0525abe5a6b9d8343a507616",
    "pathmnist_128": "ac42d08fb904d92c244187169d1fd1d9",
    "pathmnist_224": "2c51a510bcdc9cf8ddb2af93af1eadec",
    "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8",
    "chestmnist_64": "9de6cd0b934ebb5b7426cfba5efbae16",
    "chestmnist_128": "db107e5590b27930b62dbaf558aebee3",
    "chestmnist_224": "45bd33e6f06c3e8cdb481c74a89152aa",
    "dermamnist": "0744692d530f8e62ec473284d019b0c7",
    "dermamnist_64": "b70a2f5635c6199aeaa28c31d7202e1f",
    "dermamnist_128": "2defd784463fa5243564e855ed717de1",
    "dermamnist_224": "8974907d8e169bef5f5b96bc506ae45d",
    "octmnist": "c68d92d5b585d8d81f7112f81e2d0842",
    "octmnist_64": "e229e9440236b774d9f0dfef9d07bdaf",
    "octmnist_128": "0a97e76651ace45c5d943ee3f65b63ae",
    "octmnist_224": "abc493b6d529d5de7569faaef2773ba3",
    "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f",
    "pneumoniamnist_64": "8f4eceb4ccffa70c672198ea285246c6",
    "pneumoniamnist_128": "05b46931834c231683c68f40c47b2971",
    "pneumoniamnist_224": "d6a3c71de1b945ea11211b03746c1fe1",
    "retinamnist": "bd4c0672f1bba3e3a89f0e4e876791e4",
    "retinamnist_64": "afda852cc34dcda56f86ad2b2457dbcc",
    "retinamnist_128": "e48e916a24454daf90583d4e6efb1a18",
    "retinamnist_224": "eae7e3b6f3fcbda4ae613ebdcbe35348",
    "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6",
    "breastmnist_64": "742edef2a1fd1524b2efff4bd7ba9364",
    "breastmnist_128": "363e4b3f8d712e9b5de15470a2aaadf1",
    "breastmnist_224": "b56378a6eefa9fed602bb16d192d4c8b",
    "bloodmnist": "7053d0359d879ad8a5505303e11de1dc",
    "bloodmnist_64": "2b94928a2ae4916078ca51e05b6b800b",
    "bloodmnist_128": "adace1e0ed228fccda1f39692059dd4c",
    "bloodmnist_224": "b718ff6835fcbdb22ba9eacccd7b2601",
    "tissuemnist": "ebe78ee8b05294063de985d821c1c34b",
    "tissuemnist_64": "123ece2eba09d0aa5d698fda57103344",
    "tissuemnist_128": "61b955355d7425a89687b06cca3ce0c2",
    "tissuemnist_224": "b077128c4a949f0a4eb01517f9037b9c",
    "organamnist": "68e3f8846a6bd62f0c9bf841c0d9eacc",
    "organamnist_64": "2dcccc29b88e6da5a01161ef20cda288",
    "organamnist_128": "eeae80d0a227a8d099027e1b3cfd3b60",
    "organamnist_224": "50747347e05c87dd3aaf92c49f9f3170",
    "organcmnist": "b9ceb9546e10131b32923c5bbeaea2b1",
    "organcmnist_64": "3ce34a8724ea6f548e6db4744d03b6a9",
    "organcmnist_128": "773c1f009daa3fe5d9a2a201b2a7ed94",
    "organcmnist_224": "050f5e875dc056f6768abf94ec9995d1",
    "organsmnist": "9ab87b696fb54e2a387ebe992d6ed5f1",
    "organsmnist_64": "53a6d115339d874c25e309a994ff46d3",
    "organsmnist_128": "ded0c5fa01a95dc4978b956f613e9b8e",
    "organsmnist_224": "b354719e553fbbb2513d5533f52a4cb1",
    "organmnist3d": "a0c5a1ff56af4f155c46d46fbb45a2fe",
    "organmnist3d_64": "58a2205adf14a9d0a189cb06dc78bf10",
    "nodulemnist3d": "8755a7e9e05a4d9ce80a24c3e7a256f3",
    "nodulemnist3d_64": "c47c5b7d457bf6332200d2ea6d64ecd8",
    "adrenalmnist3d": "bbd3c5a5576322bc4cdfea780653b1ce",
    "adrenalmnist3d_64": "17721accfe9fb005146a47d33bc54b2f",
    "fracturemnist3d": "6aa7b0143a6b42da40027a9dda61302f",
    "fracturemnist3d_64": "f01d7e6316aedf4210da0da5b7437b42",
    "vesselmnist3d": "b41fd4f7e7e2feedddb201585ecafa1b",
    "vesselmnist3d_64": "6bb274a8846e1097066dcd64e2c4520f",
    "synapsemnist3d": "1235b78a3cd6280881dd7850a78eadb6",
    "synapsemnist3d_64": "43bd14ebf3af9d3dd072446fedc14d5e",
}
"""Of the file of each set in each size."""


class NpzImages:
    """The images of an array in a `.npz` file: some have 13 GB, of which one at a time is read.

    Args:
        path: of the file.
        key: of the array, (N, *S) uint8.

    Raises:
        UserError: there is no such array.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.member = path, f"{key}.npy"
        try:
            with zipfile.ZipFile(path) as archive, archive.open(self.member) as file:
                self.shape, *order_and_type = _header(file)
        except (KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: found no array {key} ({error})") from None
        if order_and_type != [False, np.uint8]:
            raise UserError(f"{path}: found {key} of another type, expected uint8 in C order")

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        sides = self.shape[1:]
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            _header(file)
            for _ in range(len(self)):
                yield np.frombuffer(file.read(math.prod(sides)), np.uint8).reshape(sides)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """The shape, whether it is in Fortran's order, and the type of an NPY file's array."""
    return HEADERS[np.lib.format.read_magic(file)](file)


def _source(name: str, md5: str) -> Source:
    flag = name.split("_")[0]
    file = f"{name}.npz"
    volumes = flag.endswith(VOLUMES)
    return Source(
        read=partial(_read, file=file, volumes=volumes),
        counts=dict(zip(PARTS, COUNTS[flag], strict=True)),
        files={file: md5},
        downloads=[Download(file, URL.format(file), md5)],
        is_grayscale=flag not in COLOUR,
        options={"spatial_dimension": 3} if volumes else {},
    )


def _read(raw: RawFiles, seed: int, file: str, volumes: bool) -> SplitImages:
    with np.load(raw[file], allow_pickle=False) as arrays:
        labels = {part: arrays[f"{part}_labels"].tolist() for part in PARTS}
    return {
        part: ImageArray(
            NpzImages(raw[file], f"{part}_images"),
            list(map(_label, labels[part])),
            is_volumes=volumes,
        )
        for part in PARTS
    }


def _label(row: Sequence[int]) -> str:
    """The class; of the 14 findings of ChestMNIST the numbers of those that are there."""
    if len(row) == 1:
        return str(row[0])
    return "+".join(str(i) for i, there in enumerate(row) if there) or "none"


SOURCES = {name: _source(name, md5) for name, md5 in MD5.items()}
