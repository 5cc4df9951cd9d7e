"""Which images are screened: files, folders of them, and splits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from diffusion_ood.data.formats.dicom import SUFFIX as DICOM_SUFFIX
from diffusion_ood.data.formats.dicom import is_dicom
from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.places import Place
from diffusion_ood.data.readers import SUFFIXES, image_suffix
from diffusion_ood.data.slices import parts
from diffusion_ood.data.splits import Edit, read_split
from diffusion_ood.data.studies import UNKNOWN, places_of, series_or_unknown
from diffusion_ood.data.transforms import flip
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions
from diffusion_ood.runtime.files import as_cell
from diffusion_ood.runtime.words import counted

LISTS = (".csv", ".txt")


@dataclass(frozen=True)
class Item:
    """An image that is to be screened.

    Attributes:
        name: by which its decision is known; its path as text.
        path: of its file.
        within: its path within the folder or split that names it, by which groups are told apart.
        edit: how it is turned, as its split says.
        series: digest of the DICOM series, of a file that was found in a folder.
    """

    name: str
    path: Path
    within: str
    edit: Edit | None = None
    series: str | None = None

    def read(self, reader: Reader) -> Tensor:
        """The image as the model sees it, `(C, *S)`; UserError where it cannot be read."""
        image = reader.read(self.path)
        return flip(image[None], self.edit, reader.options)[0]


def gather(places: Sequence[Path], without: Sequence[Path | None] = ()) -> list[Item]:
    """Every image of these files, folders, split CSVs and image lists, each once.

    Folders are searched through, but for those `without`, which are results, and hidden and linked
    ones; files in them that are no images by their names, nor DICOM, are passed over, and counted
    aloud, as DICOM without an image is. Every DICOM file is an image here, see `for_model`.

    Raises:
        UserError: a split that is wrong, a folder without an image, or a path without a file.
    """
    found: dict[str, Item] = {}
    left_out = [Path(os.path.realpath(folder)) for folder in without if folder is not None]
    for place in places:
        for item in _items(place, left_out):
            other = found.setdefault(item.name, item)
            if other.path != item.path:
                raise UserError(f"{item.name}: found two files whose names read so, expected one")
    return list(found.values())


def for_model(items: Sequence[Item], options: ImageOptions) -> list[Item]:
    """What these items are to a model: of volumes, or of their slices, a series of DICOM is one.

    Of a model of slices every slice is an item.
    """
    if options.spatial_dimension == 2 and options.slices is None:
        return list(items)
    places = places_of({item.path: item.series for item in items if item.series is not None})
    found: dict[str, Item] = {}
    for item in items:
        place = places.get(item.path)
        own = item if place is None or place.path == item.path else _of_series(item, place)
        for part in parts(own.path, options):
            path = Path(f"{own.path}{part}")
            one = replace(own, name=own.name + part, path=path, within=own.within + part)
            found.setdefault(one.name, one)
    return list(found.values())


def _of_series(item: Item, place: Place) -> Item:
    """The series that a file is of."""
    depth = len(item.path.relative_to(place.path).parts)
    folder = Path(item.within).parents[depth - 1]
    name = place.path.resolve().name if folder == Path() else str(folder)
    series = str(place)[len(str(place.path)) :]
    return Item(as_cell(str(place)), Path(str(place)), f"{as_cell(name)}{series}")


def _series(path: Path) -> str | None:
    """The digest of a DICOM file's series, `UNKNOWN` of another image, None of what is none."""
    if image_suffix(path.name):
        return UNKNOWN
    is_one = path.suffix.lower() == DICOM_SUFFIX or is_dicom(path)
    return series_or_unknown(path) if is_one else None


def _items(place: Path, left_out: Sequence[Path]) -> Iterator[Item]:
    if place.is_dir():
        everything = {path: _series(path) for path in _walk(place, left_out)}
        files = {path: series for path, series in everything.items() if series is not None}
        dicom = sum(is_dicom(path) for path in everything.keys() - files.keys())
        others = len(everything) - len(files) - dicom
        for count, kind in (
            (others, "without an image's name"),
            (dicom, "of DICOM without an image"),
        ):
            if count:
                print(f"{place}: passed over {counted(count, 'file')} {kind}", file=sys.stderr)
        if not files:
            raise UserError(
                f"{place}: found no image, expected files such as {', '.join(SUFFIXES)}, or DICOM"
            )
        for path, series in files.items():
            within = as_cell(str(path.relative_to(place)))
            yield Item(as_cell(str(path)), path, within, series=series or None)
    elif place.suffix.lower() in LISTS:
        split = read_split(place)
        for number in range(len(split)):
            path = split.image_path(number)
            edited = f" ({split.edit})" if split.edit else ""
            within = as_cell(split.images[number])
            yield Item(as_cell(f"{path}{edited}"), path, within, split.edit)
    elif Place.of(place).path.exists():
        yield Item(as_cell(str(place)), place, as_cell(place.name))
    else:
        raise UserError(f"{place}: no such file or folder, expected images")


def _walk(folder: Path, left_out: Sequence[Path]) -> Iterator[Path]:
    """Files below a folder by name, hidden ones left out."""
    for path, folders, files in os.walk(folder):
        kept = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [
            n for n in kept if Path(os.path.realpath(os.path.join(path, n))) not in left_out
        ]
        yield from (Path(path, name) for name in sorted(files) if not name.startswith("."))
