"""Which images are screened: files, folders of them, and splits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.readers import SUFFIXES, image_suffix
from diffusion_ood.data.splits import Edit, read_split
from diffusion_ood.data.transforms import flip
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import as_text

LISTS = (".csv", ".txt")


@dataclass(frozen=True)
class Item:
    """An image that is to be screened.

    Attributes:
        name: by which its decision is known; its path as text.
        path: of its file.
        within: its path within the folder or split that names it, by which groups are told apart.
        edit: how it is turned, as its split says.
    """

    name: str
    path: Path
    within: str
    edit: Edit | None = None

    def read(self, reader: Reader) -> Tensor:
        """The image as the model sees it, `(C, *S)`; UserError where it cannot be read."""
        image = reader.read(self.path)
        return flip(image[None], self.edit)[0]


def gather(places: Sequence[Path]) -> list[Item]:
    """Every image of these files, folders, split CSVs and image lists, each once.

    Folders are searched through; files in them that are no images by their names are passed over.

    Raises:
        UserError: a split that is wrong, a folder without an image, or a path without a file.
    """
    found: dict[str, Item] = {}
    for place in places:
        for item in _items(place):
            found.setdefault(item.name, item)
    return list(found.values())


def _items(place: Path) -> Iterator[Item]:
    if place.is_dir():
        files = [path for path in _walk(place) if image_suffix(path.name)]
        if not files:
            raise UserError(
                f"{place}: found no image, expected files such as {', '.join(SUFFIXES)}"
            )
        yield from (
            Item(as_text(str(path)), path, as_text(str(path.relative_to(place)))) for path in files
        )
    elif place.suffix.lower() in LISTS:
        split = read_split(place)
        for number in range(len(split)):
            path = split.image_path(number)
            edited = f" ({split.edit})" if split.edit else ""
            within = as_text(split.images[number])
            yield Item(as_text(f"{path}{edited}"), path, within, split.edit)
    elif place.exists():
        yield Item(as_text(str(place)), place, as_text(place.name))
    else:
        raise UserError(f"{place}: no such file or folder, expected images")


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder by name, hidden ones left out."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(path, name) for name in sorted(files) if not name.startswith("."))
